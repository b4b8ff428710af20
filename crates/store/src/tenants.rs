//! Those who share the farm, and limits on devices.

use seedfarm_core::TenantName;
use seedfarm_core::terms::{LimitKey, TenantPolicy};
use sqlx::PgConnection;

use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::value::{natural, saturate, small, whole};

/// A tenant with its policy and what it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Its name.
    pub name: TenantName,
    /// Its policy; the ordinary one where none was set.
    pub policy: TenantPolicy,
    /// Whether a policy was set.
    pub is_set: bool,
    /// Its unfinished jobs.
    pub jobs: u64,
    /// Images of those that are not settled.
    pub waiting: u64,
    /// Images that were made for it.
    pub done: u64,
    /// Device time that its images took, in milliseconds.
    pub device_ms: u64,
}

/// Most devices at once for a model or a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLimit {
    /// What it is for.
    pub key: LimitKey,
    /// How many.
    pub max_devices: u32,
}

impl Store {
    /// Every tenant that has a policy or a job, by name.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>> {
        let rows = sqlx::query!(
            r#"-- tenants
            SELECT coalesce(t.name, j.tenant) AS "name!", t.weight AS "weight?", t.max_devices, t.max_images,
                coalesce(j.jobs, 0) AS "jobs!", coalesce(j.waiting, 0) AS "waiting!",
                coalesce(j.done, 0) AS "done!", coalesce(j.device_ms, 0) AS "device_ms!"
            FROM tenants t FULL JOIN (
                SELECT j.tenant, count(*) FILTER (WHERE j.state IN ('active', 'paused')) AS jobs,
                    (sum(j.total - p.done - p.failed) FILTER (WHERE j.state IN ('active', 'paused')))::bigint
                        AS waiting,
                    sum(p.done)::bigint AS done, sum(p.device_ms)::bigint AS device_ms
                FROM jobs j JOIN job_progress p ON p.job_id = j.id GROUP BY j.tenant
            ) j ON j.tenant = t.name
            ORDER BY 1"#
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(TenantRow {
                name: row.name.parse()?,
                policy: policy(row.weight, row.max_devices, row.max_images)?,
                is_set: row.weight.is_some(),
                jobs: natural(row.jobs)?,
                waiting: natural(row.waiting)?,
                done: natural(row.done)?,
                device_ms: natural(row.device_ms)?,
            })
        });
        rows.collect()
    }

    /// The policies that were set.
    pub async fn tenant_policies(&self) -> Result<Vec<(TenantName, TenantPolicy)>> {
        let rows = sqlx::query!(
            "-- tenant_policies
            SELECT name, weight, max_devices, max_images FROM tenants ORDER BY name"
        );
        let rows =
            rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
                Ok((row.name.parse()?, policy(Some(row.weight), row.max_devices, row.max_images)?))
            });
        rows.collect()
    }

    /// Sets a tenant's policy.
    pub async fn set_tenant(&self, name: &TenantName, policy: &TenantPolicy) -> Result<()> {
        let set = sqlx::query!(
            "-- set_tenant
            INSERT INTO tenants (name, weight, max_devices, max_images) VALUES ($1, $2, $3, $4)
            ON CONFLICT (name) DO UPDATE SET weight = excluded.weight, max_devices = excluded.max_devices,
                max_images = excluded.max_images, updated_at = now()",
            name.as_str(),
            whole(policy.weight),
            policy.max_devices.map(whole),
            policy.max_images.map(saturate)
        );
        set.execute(&self.pool).await?;
        Ok(())
    }

    /// Gives a tenant the ordinary policy again; says whether it had another.
    pub async fn remove_tenant(&self, name: &TenantName) -> Result<bool> {
        let remove = sqlx::query!(
            "-- remove_tenant
            DELETE FROM tenants WHERE name = $1",
            name.as_str()
        );
        Ok(remove.execute(&self.pool).await?.rows_affected() == 1)
    }

    /// Every limit on devices, by kind and name.
    pub async fn device_limits(&self) -> Result<Vec<DeviceLimit>> {
        let rows = sqlx::query!(
            "-- device_limits
            SELECT kind, name, max_devices FROM device_limits ORDER BY kind, name"
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(DeviceLimit { key: LimitKey::new(&row.kind, row.name)?, max_devices: small(row.max_devices)? })
        });
        rows.collect()
    }

    /// Sets a limit on devices.
    pub async fn set_device_limit(&self, limit: &DeviceLimit) -> Result<()> {
        let set = sqlx::query!(
            "-- set_device_limit
            INSERT INTO device_limits (kind, name, max_devices) VALUES ($1, $2, $3)
            ON CONFLICT (kind, name) DO UPDATE SET max_devices = excluded.max_devices, updated_at = now()",
            limit.key.kind(),
            limit.key.name(),
            whole(limit.max_devices)
        );
        set.execute(&self.pool).await?;
        Ok(())
    }

    /// Removes a limit on devices; says whether there was one.
    pub async fn remove_device_limit(&self, key: &LimitKey) -> Result<bool> {
        let remove = sqlx::query!(
            "-- remove_device_limit
            DELETE FROM device_limits WHERE kind = $1 AND name = $2",
            key.kind(),
            key.name()
        );
        Ok(remove.execute(&self.pool).await?.rows_affected() == 1)
    }
}

fn policy(weight: Option<i32>, max_devices: Option<i32>, max_images: Option<i64>) -> Result<TenantPolicy> {
    let Some(weight) = weight else { return Ok(TenantPolicy::default()) };
    Ok(TenantPolicy {
        weight: small(weight)?,
        max_devices: max_devices.map(small).transpose()?,
        max_images: max_images.map(natural).transpose()?,
    })
}

/// Refuses a job that takes its tenant over its quota. The submissions lane runs one at a time, so that two jobs
/// cannot pass together.
pub(crate) async fn check_quota(
    connection: &mut PgConnection,
    tenant: &TenantName,
    asked: u64,
) -> Result<()> {
    let quota = sqlx::query!(
        r#"-- check_quota
        SELECT t.max_images AS "max_images!", coalesce((
            SELECT sum(j.total)::bigint FROM jobs j
            WHERE j.tenant = t.name AND j.state IN ('active', 'paused')
        ), 0) AS "used!"
        FROM tenants t WHERE t.name = $1 AND t.max_images IS NOT NULL"#,
        tenant.as_str()
    );
    let Some(quota) = quota.fetch_optional(connection).await? else { return Ok(()) };
    let (used, limit) = (natural(quota.used)?, natural(quota.max_images)?);
    if used.saturating_add(asked) > limit {
        return Err(StoreError::OverQuota { tenant: tenant.clone(), used, asked, limit });
    }
    Ok(())
}
