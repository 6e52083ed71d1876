//! Parts of answers that take further scopes: those of the facts, and the secrets that the facts leave ungated.

use super::{openapi::OpenApi, source::Endpoint};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};

/// What kind of part it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Field,
    Credential,
    Items { field: String, prefix: String },
}

/// Pointers by kind of part and the scope that shows them.
pub(crate) type Filters = BTreeMap<(Part, String), BTreeSet<String>>;

/// A field that holds a secret.
struct Secret {
    /// How the operation's path begins.
    path: &'static str,
    /// How the name of what holds the field ends; empty for the answer itself.
    holder: &'static str,
    fields: &'static [&'static str],
    /// The scope that shows it; without one, the operation's own, which an alias then does not stand for.
    scope: Option<&'static str>,
}

const DATABASE: Option<&str> = Some("database:view_credentials");
const PARTNER: Option<&str> = Some("partner_network_connect:view_credentials");
const FUNCTION: Option<&str> = Some("function:admin");

#[rustfmt::skip]
const SECRETS: &[Secret] = &[
    Secret { path: "/v2/databases", holder: "connection", fields: &["uri", "user", "password"], scope: DATABASE },
    Secret { path: "/v2/databases", holder: "users", fields: &["password", "access_cert", "access_key"], scope: DATABASE },
    Secret { path: "/v2/databases", holder: "user", fields: &["password", "access_cert", "access_key"], scope: DATABASE },
    // The address of a log sink holds its password, as a database's `uri` does.
    Secret { path: "/v2/databases/{database_cluster_uuid}/logsink", holder: "config", fields: &["key", "url", "datadog_api_key"], scope: DATABASE },
    Secret { path: "/v2/partner_network_connect", holder: "bgp_auth_key", fields: &["value"], scope: PARTNER },
    Secret { path: "/v2/partner_network_connect", holder: "service_key", fields: &["value"], scope: PARTNER },
    Secret { path: "/v2/functions", holder: "namespaces", fields: &["key"], scope: FUNCTION },
    Secret { path: "/v2/functions", holder: "namespace", fields: &["key"], scope: FUNCTION },
    Secret { path: "/v2/functions", holder: "access_key", fields: &["secret"], scope: FUNCTION },
    Secret { path: "/v2/add-ons", holder: "resources", fields: &["sso_url"], scope: None },
    Secret { path: "/v2/add-ons", holder: "resource", fields: &["sso_url"], scope: None },
    Secret { path: "/v2/apps", holder: "datadog", fields: &["api_key"], scope: None },
    Secret { path: "/v2/apps", holder: "logtail", fields: &["token"], scope: None },
    Secret { path: "/v2/apps", holder: "basic_auth", fields: &["password"], scope: None },
    Secret { path: "/v2/dedicated-inferences", holder: "token", fields: &["value"], scope: None },
    Secret { path: "/v2/dedicated-inferences", holder: "tokens", fields: &["value"], scope: None },
    Secret { path: "/v2/monitoring", holder: "credentials", fields: &["password"], scope: None },
    Secret { path: "/v2/gen-ai", holder: "api_key_info", fields: &["secret_key"], scope: None },
    Secret { path: "/v2/gen-ai", holder: "api_key_infos", fields: &["secret_key"], scope: None },
    Secret { path: "/v2/gen-ai", holder: "api_keys", fields: &["api_key"], scope: None },
    Secret { path: "/v2/gen-ai", holder: "functions", fields: &["api_key"], scope: None },
    Secret { path: "/v2/gen-ai", holder: "mcp_servers", fields: &["authorization", "headers"], scope: None },
    Secret { path: "/v2/gen-ai", holder: "source_ref", fields: &["hf_token"], scope: None },
    Secret { path: "/v2/gen-ai/oauth2/dropbox/tokens", holder: "", fields: &["token", "refresh_token"], scope: None },
];

/// Secrets that the spec places in a list that its examples do not have.
const UNLISTED: [(&str, &str); 2] = [
    ("partnerAttachments_get_bgp_auth_key", "/bgp_auth_key/value"),
    ("partnerAttachments_get_service_key", "/service_key/value"),
];

/// The spec's spelling of a field, and the one that it presumably means.
const MISSPELT: (&str, &str) = ("/imgages", "/images");

/// The parts of an operation's answers that take further scopes.
pub(crate) fn filters(endpoint: &Endpoint, openapi: &OpenApi) -> anyhow::Result<Filters> {
    let mut filters = Filters::new();
    let mut add = |part: Part, scope: &str, pointer: String| {
        filters.entry((part, scope.to_owned())).or_default().insert(pointer);
    };
    for filter in &endpoint.response_filters {
        let [scope] = filter.requires.as_slice() else {
            anyhow::bail!("its filter `{}` names several scopes", filter.pointer);
        };
        let part = match filter.kind.as_str() {
            "field" => Part::Field,
            "credential" => Part::Credential,
            "items" => items(filter)?,
            other => anyhow::bail!("its filter `{}` is of the unknown kind `{other}`", filter.pointer),
        };
        add(part.clone(), scope, filter.pointer.clone());
        if let Some(stem) = filter.pointer.strip_suffix(MISSPELT.0) {
            add(part, scope, format!("{stem}{}", MISSPELT.1));
        }
    }
    for (pointer, secret) in secrets(endpoint, openapi)? {
        let own = || endpoint.scopes.iter().find(|scope| !endpoint.alias_scopes.contains(scope));
        let scope = secret.scope.or_else(|| own().map(String::as_str));
        let scope =
            scope.with_context(|| format!("its secret `{pointer}` has no scope that could show it"))?;
        add(Part::Credential, scope, pointer);
    }
    Ok(filters)
}

fn items(filter: &super::source::Filter) -> anyhow::Result<Part> {
    let context = || format!("its filter `{}` does not tell its items apart", filter.pointer);
    let when = filter.when.as_ref().with_context(context)?;
    let place = when.place()?;
    let field =
        place.strip_prefix(&filter.pointer).and_then(|rest| rest.strip_prefix('/')).with_context(context)?;
    let prefix = when.prefix()?.with_context(context)?;
    Ok(Part::Items { field: field.to_owned(), prefix: prefix.to_owned() })
}

/// The secrets of an operation that its own scopes do not give away on purpose.
fn secrets(endpoint: &Endpoint, openapi: &OpenApi) -> anyhow::Result<Vec<(String, &'static Secret)>> {
    if endpoint.server.is_some() {
        return Ok(Vec::new());
    }
    let answers = openapi.answers(&endpoint.operation_id)?;
    let unlisted =
        UNLISTED.iter().filter(|(name, _)| *name == endpoint.operation_id).map(|(_, pointer)| *pointer);
    let found = answers.keys().map(String::as_str).chain(unlisted).filter_map(|pointer| {
        let secret = SECRETS.iter().find(|secret| secret.is_at(&endpoint.path, pointer))?;
        Some((pointer.to_owned(), secret))
    });
    Ok(found.collect())
}

impl Secret {
    fn is_at(&self, path: &str, pointer: &str) -> bool {
        let Some((holder, field)) = pointer.rsplit_once('/') else { return false };
        let holder = holder.trim_end_matches("/*").rsplit('/').next().unwrap_or_default();
        let is_holder =
            if self.holder.is_empty() { holder.is_empty() } else { holder.ends_with(self.holder) };
        path.starts_with(self.path) && is_holder && self.fields.contains(&field)
    }
}
