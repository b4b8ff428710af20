//! Tenants and limits on devices.

use seedfarm_core::TenantName;
use seedfarm_core::terms::{LimitKey, TenantPolicy};
use seedfarm_proto::{error, v1};
use seedfarm_store::DeviceLimit;
use tonic::Status;

use crate::farm::Farm;
use crate::services::check_short;
use crate::{faults, wire};

pub(super) async fn list(farm: &Farm) -> Result<v1::ListTenantsResponse, Status> {
    let rows = farm.store.tenants().await.map_err(faults::of_store)?;
    Ok(v1::ListTenantsResponse { tenants: rows.into_iter().map(wire::tenant).collect() })
}

pub(super) async fn set(farm: &Farm, request: v1::SetTenantRequest) -> Result<v1::SetTenantResponse, Status> {
    let name = name(&request.name)?;
    let given = request.policy.ok_or_else(|| error::missing("the policy"))?;
    let policy =
        TenantPolicy { weight: given.weight, max_devices: given.max_devices, max_images: given.max_images };
    policy.check().map_err(|fault| error::invalid(&fault))?;
    let _control = farm.control.lock().await;
    farm.store.set_tenant(&name, &policy).await.map_err(faults::of_store)?;
    farm.board().put_tenant(&name, policy);
    farm.wake.notify_one();
    Ok(v1::SetTenantResponse {})
}

pub(super) async fn remove(
    farm: &Farm,
    request: v1::RemoveTenantRequest,
) -> Result<v1::RemoveTenantResponse, Status> {
    let name = name(&request.name)?;
    let _control = farm.control.lock().await;
    if !farm.store.remove_tenant(&name).await.map_err(faults::of_store)? {
        let message = format!("the tenant '{name}' has no policy of its own: list tenants to see who has");
        return Err(faults::not_found("TENANT_NOT_FOUND", message));
    }
    farm.board().put_tenant(&name, TenantPolicy::default());
    farm.wake.notify_one();
    Ok(v1::RemoveTenantResponse {})
}

pub(super) async fn limits(farm: &Farm) -> Result<v1::ListLimitsResponse, Status> {
    let limits = farm.store.device_limits().await.map_err(faults::of_store)?;
    Ok(v1::ListLimitsResponse { limits: limits.into_iter().map(wire::limit).collect() })
}

pub(super) async fn set_limit(
    farm: &Farm,
    request: v1::SetLimitRequest,
) -> Result<v1::SetLimitResponse, Status> {
    let given = request.limit.ok_or_else(|| error::missing("the limit"))?;
    let limit = DeviceLimit { key: key(&given.kind, given.name)?, max_devices: given.max_devices };
    let _control = farm.control.lock().await;
    farm.store.set_device_limit(&limit).await.map_err(faults::of_store)?;
    farm.board().put_limit(limit.key, Some(limit.max_devices));
    farm.wake.notify_one();
    Ok(v1::SetLimitResponse {})
}

pub(super) async fn remove_limit(
    farm: &Farm,
    request: v1::RemoveLimitRequest,
) -> Result<v1::RemoveLimitResponse, Status> {
    let key = key(&request.kind, request.name)?;
    let _control = farm.control.lock().await;
    if !farm.store.remove_device_limit(&key).await.map_err(faults::of_store)? {
        let message = format!("there is no limit for the {} '{}': list limits", key.kind(), key.name());
        return Err(faults::not_found("LIMIT_NOT_FOUND", message));
    }
    farm.board().put_limit(key, None);
    farm.wake.notify_one();
    Ok(v1::RemoveLimitResponse {})
}

fn name(text: &str) -> Result<TenantName, Status> {
    text.parse().map_err(|fault| error::invalid(&fault))
}

fn key(kind: &str, name: String) -> Result<LimitKey, Status> {
    check_short("the name of a model or licence", &name)?;
    if name.is_empty() {
        return Err(error::missing("the name of the model or licence"));
    }
    LimitKey::new(kind, name).map_err(|fault| error::invalid(&fault))
}
