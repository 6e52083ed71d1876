//! Where the catalogue differs from the spec, and why. Everything else follows general rules in `render`.

/// POSTs that change nothing, so that `api:read` covers them.
pub(crate) const READ_POSTS: [&str; 2] = ["apps_validate_appSpec", "apps_list_metrics_bandwidth_daily"];

/// Credentials that an operation answers with, and the scope that should show them.
pub(crate) struct Showing {
    pub(crate) operation: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) reason: &'static str,
}

/// Reads that answer with a secret for a read scope, without a word of the spec.
pub(crate) const SHOWING_READS: [Showing; 4] = [
    Showing {
        operation: "partnerAttachments_get_bgp_auth_key",
        scope: "partner_network_connect:view_credentials",
        reason: "answers with a key, yet the spec wants a read scope only",
    },
    Showing {
        operation: "partnerAttachments_get_service_key",
        scope: "partner_network_connect:view_credentials",
        reason: "answers with a key, yet the spec wants a read scope only",
    },
    Showing {
        operation: "databases_list_logsink",
        scope: "database:view_credentials",
        reason: "answers with the sinks' keys, yet the spec wants a read scope only",
    },
    Showing {
        operation: "databases_get_logsink",
        scope: "database:view_credentials",
        reason: "answers with the sink's keys, yet the spec wants a read scope only",
    },
];

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
