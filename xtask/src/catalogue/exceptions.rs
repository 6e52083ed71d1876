//! Where the catalogue differs from the spec, and why. Everything else follows general rules in `render`.

/// POSTs that change nothing, so that `api:read` covers them.
pub(crate) const READ_POSTS: [&str; 2] = ["apps_validate_appSpec", "apps_list_metrics_bandwidth_daily"];

/// Resources whose identifier can hold a `/`, sent as `%2F`.
pub(crate) const SLASH_RESOURCES: [&str; 1] = ["registry_repository"];

/// Whether a list of several scopes inside one security block, which means AND, may be meant as OR.
pub(crate) fn is_unclear(operation: &str, scopes: &[String]) -> bool {
    let snapshots = ["snapshots_get", "snapshots_delete"];
    scopes.len() > 1
        && (scopes.iter().any(|scope| scope == "function:admin") || snapshots.contains(&operation))
}

/// The host of an operation whose whole URL, host included, comes from an earlier answer.
pub(crate) const PRESIGNED_HOST: &str = "{upload_url}";
