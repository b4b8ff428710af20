-- Jobs that rendered before device time was counted have taken what their results took. Attempts that came
-- to nothing before then were not written down.
UPDATE job_progress p SET device_ms = r.device_ms
FROM (SELECT job_id, sum(duration_ms)::bigint AS device_ms FROM results GROUP BY job_id) r
WHERE r.job_id = p.job_id AND p.device_ms < r.device_ms;
