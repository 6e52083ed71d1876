//! Where the query and body name resources: by the names that the API gives its fields, with exceptions.

use super::{
    openapi::{Field, OpenApi},
    source::{Endpoint, Source},
};
use std::collections::BTreeMap;

/// Kinds that no placeholder stands for: a bucket of Spaces, a region, a size of a machine.
pub(crate) const OTHER_KINDS: [&str; 3] = ["region", "size", "space"];

/// The kinds of things that are named by the field `name` when they are made, yet not so here: a record's name is
/// a part of its domain, an action is given none.
const UNNAMED_KINDS: [&str; 6] =
    ["action", "domain_record", "droplet_action", "image_action", "reserved_ip_action", "volume_action"];

/// The ends of pointers that name resources of a kind; the longest that fits counts, an empty kind names none.
/// A name in a list stands with and without `/*`.
#[rustfmt::skip]
const FIELDS: &[(&str, &str)] = &[
    // Names of one word that the API uses in one sense.
    ("agent_uuid", "genai_agent"), ("agent_uuids", "genai_agent"),
    ("anthropic_key_uuid", "genai_anthropic_key"),
    ("app_id", "app"), ("app_ids", "app"),
    ("bucket", "space"),
    ("certificate_id", "certificate"),
    ("child_agent_uuid", "genai_agent"), ("parent_agent_uuid", "genai_agent"),
    ("cluster_name", "database_cluster"),
    ("cluster_uuid", "kubernetes_cluster"), ("cluster_uuids", "kubernetes_cluster"),
    ("data_source_uuids", "genai_data_source"),
    ("database_id", "database_cluster"),
    ("dataset_uuid", "genai_evaluation_dataset"),
    ("db_name", "database"), ("db_user", "database_user"),
    ("deployment_id", "app_deployment"),
    ("destination_uuid", "monitoring_destination"),
    ("droplet_id", "droplet"), ("droplet_ids", "droplet"), ("linked_droplet_id", "droplet"),
    ("eval_preset_uuid", "genai_model_evaluation_preset"),
    ("faas_namespace", "functions_namespace"),
    ("floating_ips", "reserved_ip"), ("reserved_ips", "reserved_ip"),
    ("guardrail_uuid", "genai_guardrail"),
    ("image", "image"),
    ("instance_size_slug", "app_instance_size"),
    ("knowledge_base_uuid", "genai_knowledge_base"), ("knowledge_base_uuids", "genai_knowledge_base"),
    ("kubernetes_ids", "kubernetes_cluster"),
    ("load_balancer_uids", "load_balancer"), ("target_load_balancer_ids", "load_balancer"),
    ("load_balancers", "load_balancer"),
    ("metric_uuid", "genai_evaluation_metric"), ("metric_uuids", "genai_evaluation_metric"),
    ("model_router_uuid", "genai_model_router"),
    ("model_uuid", "genai_model"), ("candidate_model_uuid", "genai_model"), ("judge_model_uuid", "genai_model"),
    ("embedding_model_uuid", "genai_model"),
    ("open_ai_key_uuid", "genai_openai_key"),
    ("private_network_uuid", "vpc"), ("vpc_id", "vpc"), ("vpc_ids", "vpc"), ("vpc_uuid", "vpc"),
    ("old_vpc_id", "vpc"), ("new_vpc_id", "vpc"), ("vpc/id", "vpc"), ("vpc/uuid", "vpc"),
    // Its id is no VPC's, which keeps a rule for VPCs from covering it unless it lists the subnet as well.
    ("worker_subnet_uuid", "vpc"),
    ("project_id", "project"),
    ("region", "region"), ("region_slug", "region"),
    ("size", "size"),
    ("registries", "container_registry"),
    ("snapshot_id", "volume_snapshot"), ("snapshots", "snapshot"), ("volume_snapshots", "volume_snapshot"),
    ("ssh_keys", "ssh_key"),
    ("tag_name", "tag"), ("tags", "tag"), ("tags/tags", "tag"),
    ("test_case_uuid", "genai_evaluation_test_case"),
    ("volume_name", "volume"), ("volumes", "volume"),
    ("workspace_uuid", "genai_workspace"),
    // The same names in another sense.
    ("aws_data_source/region", ""),
    ("config/cluster_uuid", "database_cluster"),
    ("backup_restore/database_name", "database_cluster"),
    ("spaces_data_source/bucket_name", "space"), ("datasources/*/bucket_name", "space"),
    ("domains/*/domain", "domain"), ("domains/*/zone", "domain"),
    ("image/repository", "registry_repository"), ("image/tag", ""),
    ("mongo_user_settings/databases", "database"),
    ("opensearch_acl/*/index", "opensearch_index"), ("acl/*/topic", "kafka_topic"),
    // Names of new things inside others.
    ("droplet_template/name", "droplet"),
    ("node_pools/*/name", "kubernetes_node_pool"),
    ("accelerators/*/accelerator_slug", "size"),
];

/// What the rules do not tell: operation, place and kind; an empty kind names none.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    // New things whose name has another field, or whose path takes another word than theirs.
    ("byoipPrefixes_create", "/prefix", "byoip_prefix"),
    ("databases_create_kafka_schema", "/subject_name", "kafka_schema_subject"),
    ("databases_create_logsink", "/sink_name", "database_logsink"),
    ("dedicatedInferences_create", "/spec/name", "dedicated_inference"),
    ("registry_create", "/name", "container_registry"),
    ("functions_create_namespace", "/label", "functions_namespace"),
    ("partnerAttachments_create", "/parent_uuid", "partner_attachment"),
    ("volumeSnapshots_create", "/name", "volume_snapshot"),
    // The spec calls it read-only, the product does not.
    ("apps_create", "/spec/vpc/id", "vpc"),
    ("apps_update", "/spec/vpc/id", "vpc"),
    ("apps_validate_appSpec", "/spec/vpc/id", "vpc"),
    // Names under which something is served, and certificates for them.
    ("cdn_create_endpoint", "/custom_domain", "domain"),
    ("cdn_update_endpoints", "/custom_domain", "domain"),
    ("certificates_create", "/dns_names/*", "domain"),
    ("loadBalancers_create", "/domains/*/name", "domain"),
    ("loadBalancers_update", "/domains/*/name", "domain"),
    // A bucket behind a content delivery network, by its host name.
    ("cdn_create_endpoint", "/origin", "space"),
    // Pools of connections are of a database, for a user.
    ("databases_add_connectionPool", "/db", "database"),
    ("databases_add_connectionPool", "/user", "database_user"),
    ("databases_update_connectionPool", "/db", "database"),
    ("databases_update_connectionPool", "/user", "database_user"),
    // The Droplets behind a load balancer may be chosen by tag.
    ("loadBalancers_create", "/tag", "tag"),
    ("loadBalancers_update", "/tag", "tag"),
    ("kubernetes_recycle_node_pool", "/nodes/*", "kubernetes_node"),
    // DigitalOcean's own Go library sends volumes as objects.
    ("droplets_create", "/volumes/*/id", "volume"),
    ("droplets_create", "/volumes/*/name", "volume"),
    // The spec's examples have it, its schema has not.
    ("volumeActions_post", "/volume_name", "volume"),
    // Where a model comes from, in the terms of another provider or in Spaces.
    ("genai_import_custom_model", "/source_ref/region", ""),
    // Statistics of a database; the cluster is another parameter.
    ("monitoring_get_database_mysql_schema_throughput", "?schema", "database"),
    ("monitoring_get_database_mysql_schema_latency", "?schema", "database"),
    ("apps_get", "?name", "app"),
    ("genai_get_model_catalog_card", "?model_id", "genai_model"),
];

/// Query parameters that name resources, besides those that have the name of a body's field.
const PARAMETERS: [(&str, &str); 8] = [
    ("app_component", "app_component"),
    ("autoscale_pool_id", "droplet_autoscale_pool"),
    ("db_id", "database_cluster"),
    ("host_id", "droplet"),
    ("job_name", "app_job"),
    ("job_names", "app_job"),
    ("lb_id", "load_balancer"),
    ("share_id", "nfs_share"),
];

/// Places whose values are URNs.
const URNS: [(&str, &str); 6] = [
    ("monitoring_create_sink", "/resources/*/urn"),
    ("monitoring_list_sinks", "?resource_id"),
    ("projects_assign_resources", "/resources/*"),
    ("projects_assign_resources_default", "/resources/*"),
    ("security_create_scan_rule", "/resource"),
    ("security_create_suppression", "/resources/*"),
];

/// Values whose kind another field beside them tells: the end of their pointer, and that field.
const BESIDE: [(&str, &str); 2] = [("resources/*/resource_id", "resource_type"), ("rules/*/value", "type")];

/// Elements of lists that mean all things of a kind unless a field beside their name holds one of these words: a
/// Spaces key's grant without a bucket, or with `fullaccess`, is for every bucket.
const WHOLES: [(&str, Whole); 3] =
    [("spacesKey_create", GRANTS), ("spacesKey_patch", GRANTS), ("spacesKey_update", GRANTS)];
const GRANTS: Whole =
    Whole { kind: "space", at: "/grants/*/bucket", unless: "permission", is: &["read", "readwrite"] };

/// A list of which some elements mean all things of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    pub(crate) kind: &'static str,
    pub(crate) at: &'static str,
    pub(crate) unless: &'static str,
    pub(crate) is: &'static [&'static str],
}

/// The lists of an operation's body of which some elements mean all things of a kind.
pub(crate) fn wholes(operation: &str) -> impl Iterator<Item = Whole> {
    WHOLES.into_iter().filter(move |(name, _)| *name == operation).map(|(_, whole)| whole)
}

/// How the kind of what stands at some places is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Naming {
    Kind(String),
    Urn,
    Beside(String),
}

/// The places where the requests of an operation name resources.
pub(crate) fn targets(endpoint: &Endpoint, source: &Source) -> anyhow::Result<BTreeMap<Naming, Vec<String>>> {
    let mut targets: BTreeMap<Naming, Vec<String>> = BTreeMap::new();
    // The API's host does not serve it.
    if endpoint.server.is_some() {
        return Ok(targets);
    }
    let named = Names { endpoint, openapi: &source.openapi, made: made(endpoint, source) };
    for at in named.places()? {
        if let Some(naming) = named.naming(&at) {
            targets.entry(naming).or_default().push(at);
        }
    }
    Ok(targets)
}

/// The kind of the things that a path lists: what the placeholder behind it stands for.
fn made<'a>(endpoint: &Endpoint, source: &'a Source) -> Option<&'a str> {
    let beneath = |path: &str| {
        let rest = path.strip_prefix(&endpoint.path).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|rest| rest.starts_with('{') && !rest.contains('/'))
    };
    let single = source.endpoints.iter().find(|other| other.server.is_none() && beneath(&other.path))?;
    let kind = single.path_params.last().map(|parameter| parameter.resource.as_str())?;
    (!UNNAMED_KINDS.contains(&kind)).then_some(kind)
}

struct Names<'a> {
    endpoint: &'a Endpoint,
    openapi: &'a OpenApi,
    made: Option<&'a str>,
}

impl Names<'_> {
    /// The places that hold a string or an integer: query parameters, the fields of the body that clients send,
    /// and what the exceptions add.
    fn places(&self) -> anyhow::Result<Vec<String>> {
        let operation = self.endpoint.operation_id.as_str();
        let query = self.openapi.query(operation)?;
        let mut places: Vec<String> = query.into_keys().map(|name| format!("?{name}")).collect();
        let is_value = |pointer: &str, field: &Field| {
            let is_size = pointer.ends_with("/size");
            field.writable && !pointer.contains("{}") && (field.string || (field.integer && !is_size))
        };
        let body = self.openapi.body(operation)?;
        places.extend(body.into_iter().filter(|(pointer, field)| is_value(pointer, field)).map(|(at, _)| at));
        for (_, at, _) in EXCEPTIONS.iter().filter(|(exception, ..)| *exception == operation) {
            if !places.iter().any(|place| place == at) {
                places.push((*at).to_owned());
            }
        }
        Ok(places)
    }

    fn naming(&self, at: &str) -> Option<Naming> {
        let operation = self.endpoint.operation_id.as_str();
        let kind = |kind: &str| (!kind.is_empty()).then(|| Naming::Kind(kind.to_owned()));
        let exception = EXCEPTIONS.iter().find(|(name, place, _)| *name == operation && *place == at);
        if let Some((_, _, exception)) = exception {
            return kind(exception);
        }
        if URNS.contains(&(operation, at)) {
            return Some(Naming::Urn);
        }
        if let Some((_, field)) = BESIDE.iter().find(|(end, _)| ends_in(at, end)) {
            return Some(Naming::Beside((*field).to_owned()));
        }
        match at.strip_prefix('?') {
            Some("name") => kind(self.made?),
            Some(name) => kind(
                PARAMETERS
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map_or_else(|| by_field(at), |(_, kind)| *kind),
            ),
            None => {
                self.placeholder(at).or_else(|| self.made_at(at)).map_or_else(|| kind(by_field(at)), kind)
            }
        }
    }

    /// A field of the body with the name of a placeholder, which some servers may prefer to the path.
    fn placeholder(&self, at: &str) -> Option<&str> {
        let name = at.strip_prefix('/')?;
        let same = self.endpoint.path_params.iter().find(|parameter| parameter.name == name)?;
        Some(same.resource.as_str())
    }

    /// The name of what a POST to a list makes.
    fn made_at(&self, at: &str) -> Option<&str> {
        let is_name = ["/name", "/names/*", "/spec/name"].contains(&at);
        self.made.filter(|_| is_name && self.endpoint.method == "POST")
    }
}

/// The kind by the longest end of `FIELDS` that fits; empty for none.
fn by_field(at: &str) -> &'static str {
    let fitting = FIELDS.iter().filter(|(end, _)| ends_in(at, end) || ends_in(at, &format!("{end}/*")));
    fitting.max_by_key(|(end, _)| end.len()).map_or("", |(_, kind)| kind)
}

/// Whether a place ends in whole parts.
fn ends_in(at: &str, end: &str) -> bool {
    at.strip_suffix(end).is_some_and(|rest| rest == "?" || rest.ends_with('/'))
}
