-- Late leases are rendered a second time.
--
-- `twin` marks the second lease of a range: it holds no images, as far as counting goes. `twinned` marks a lease
-- that has or had a second one beside it: some of its images may have results already. When a first lease ends
-- while its twin is out, the twin takes its place. A lease that is twin or twinned gets no other twin, so
-- no range is ever leased more than twice.
--
-- The claims lane marks a lease as twinned only if nobody else has locked it (SKIP LOCKED), and so never waits
-- for the completions lane.
ALTER TABLE leases
    ADD COLUMN twin boolean NOT NULL DEFAULT false,
    ADD COLUMN twinned boolean NOT NULL DEFAULT false,
    ADD CHECK (NOT (twin AND twinned));
