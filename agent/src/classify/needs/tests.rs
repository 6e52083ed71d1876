use super::{
    super::{Catalogue, body, condition::Test, pointer::Step},
    *,
};
use serde_json::json;
use test_case::test_case;

fn operation(name: &str) -> &'static Operation {
    Catalogue::embedded().operation(name).unwrap()
}

fn route<'a>(operation: &'a Operation) -> Route<'a, 'static> {
    let parameters = operation.parameters.iter().map(|parameter| (parameter.name.as_str(), "1".into()));
    Route { operation, parameters: parameters.collect() }
}

/// What a request needs whose body goes the whole way.
fn needs<'a>(
    operation: &'a Operation,
    query: &str,
    body: &Value,
) -> Result<Needs<'a, 'static>, UnknownVariant> {
    let bytes = serde_json::to_vec(body).unwrap();
    let body = body::parse(&bytes, Some(operation), &[])
        .unwrap_or_else(|error| panic!("{}: {error}", operation.name));
    Needs::of(&route(operation), Some(query), body.as_ref()).map(Needs::into_owned)
}

/// Puts a value at a place of a document, once in each list on the way.
fn put(document: &mut Value, steps: &[Step], value: Value) {
    match steps.split_first() {
        None => *document = value,
        Some((Step::Field(name), rest)) => {
            if !document.is_object() {
                *document = json!({});
            }
            put(&mut document[&**name], rest, value);
        }
        Some((Step::Each, rest)) => {
            if !document.is_array() {
                *document = json!([null]);
            }
            put(&mut document[0], rest, value);
        }
    }
}

/// A request of an operation: each choice is made by a value that needs nothing more, where there is one.
struct Example {
    operation: &'static Operation,
    query: String,
    body: Value,
}

impl Example {
    fn of(operation: &'static Operation) -> Self {
        let mut example = Self { operation, query: String::new(), body: json!({}) };
        for variants in &operation.variants {
            let plain = variants.known.iter().find(|known| {
                let tests = operation.conditions.iter().filter(|condition| condition.place == variants.place);
                tests.clone().all(|condition| !condition.test.of_text(known))
            });
            let known = plain.or(variants.known.first()).unwrap();
            example.put(&variants.place, whole(known, variants.by_prefix).into());
        }
        example
    }

    fn put(&mut self, place: &Place, value: Value) {
        match place {
            Place::Query(name) => self.query = format!("{name}={}", value.as_str().unwrap()),
            Place::Body(pointer) => {
                put(&mut self.body, pointer.steps(), value);
                // Where a value has its kind beside it, both are there.
                if let Some((holder, _)) = pointer.parent() {
                    for holder in select_mut(&mut self.body, holder.steps()) {
                        if holder.get("resource_type").is_some() {
                            holder["resource_id"] = "1".into();
                        }
                    }
                }
            }
        }
    }

    /// A value that is given at a place: a list where the operation looks into one.
    fn given(&self, place: &Place) -> Value {
        let Place::Body(pointer) = place else { return "x".into() };
        let inner = format!("{pointer}/*");
        let is_list = self.operation.targets.iter().any(|target| match &target.place {
            Place::Body(pointer) => pointer.to_string().starts_with(&inner),
            Place::Query(_) => false,
        });
        if is_list { json!(["x"]) } else { json!("x") }
    }

    fn needs(&self) -> Needs<'static, 'static> {
        needs(self.operation, &self.query, &self.body).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn select_mut<'v>(document: &'v mut Value, steps: &[Step]) -> Vec<&'v mut Value> {
    match steps.split_first() {
        None => vec![document],
        Some((Step::Field(name), rest)) => {
            document.get_mut(&**name).map(|value| select_mut(value, rest)).unwrap_or_default()
        }
        Some((Step::Each, rest)) => {
            let items = document.as_array_mut().into_iter().flatten();
            items.flat_map(|item| select_mut(item, rest)).collect()
        }
    }
}

/// A value that begins with a known prefix, or a known value.
fn whole(known: &str, by_prefix: bool) -> String {
    format!("{known}{}", if by_prefix { "1" } else { "" })
}

fn holds(needs: &Needs<'_, '_>, operation: &Operation, scope: &Scope) -> bool {
    let sets = operation.alternatives();
    needs.extras.iter().any(|extra| extra.scope == scope)
        || (!sets.is_empty() && sets.iter().all(|set| set.contains(scope)))
}

#[test]
fn every_condition_adds_its_scopes_when_it_is_true_and_not_when_it_is_false() {
    let mut conditions = 0;
    for operation in Catalogue::embedded().operations() {
        for condition in &operation.conditions {
            conditions += 1;
            let without = Example::of(operation);
            let mut with = Example::of(operation);
            let value = match &condition.test {
                Test::Given => with.given(&condition.place),
                Test::Equals(value) => (**value).into(),
                Test::StartsWith(prefix) => whole(prefix, true).into(),
            };
            with.put(&condition.place, value);
            let (with, without) = (with.needs(), without.needs());
            for scope in &condition.requires {
                assert!(holds(&with, operation, scope), "{}: {condition} needs {scope}", operation.name);
            }
            // The test below tells a choice's values apart.
            if condition.test == Test::Given {
                let due = without.extras.iter().find(|extra| extra.condition == condition);
                assert_eq!(due, None, "{} without {condition}", operation.name);
            }
        }
    }
    // Those of the facts, and apps as a project's resources.
    assert_eq!(conditions, 88 + 2);
}

/// Every value of every choice, for the choices of which each value needs something: none needs another's scope.
#[test]
fn a_known_value_needs_its_own_scopes_and_no_other_values() {
    for operation in Catalogue::embedded().operations() {
        for variants in &operation.variants {
            for known in &variants.known {
                let value = whole(known, variants.by_prefix);
                let mut example = Example::of(operation);
                example.put(&variants.place, value.clone().into());
                let expected = operation
                    .conditions
                    .iter()
                    .filter(|condition| condition.place == variants.place && condition.test.of_text(&value));
                let expected: Vec<&Scope> = expected.flat_map(|condition| &condition.requires).collect();
                let needs = example.needs();
                let found: Vec<&Scope> = needs.extras.iter().map(|extra| extra.scope).collect();
                assert_eq!(found, expected, "{} {value}", operation.name);
            }
        }
    }
}

#[test]
fn an_action_that_the_catalogue_does_not_know_is_refused() {
    for operation in Catalogue::embedded().operations() {
        for variants in &operation.variants {
            let place = variants.place.to_string();
            let outcome = |value: Value| {
                let mut example = Example::of(operation);
                example.put(&variants.place, value);
                Needs::of(&route(operation), None, Some(&example.body)).map(Needs::into_owned)
            };
            let known = whole(&variants.known[0], variants.by_prefix);
            assert!(outcome(known.clone().into()).is_ok(), "{}", operation.name);
            let unknown = [
                format!("x{known}"),
                known.to_uppercase(),
                format!(" {known}"),
                "frobnicate".into(),
                String::new(),
            ];
            for value in
                unknown.into_iter().map(Value::from).chain([json!(1), json!([known]), json!({}), json!(true)])
            {
                let error = outcome(value.clone()).unwrap_err();
                assert!(matches!(error, UnknownVariant::Value { .. }), "{} {value}: {error}", operation.name);
            }
            let missing = UnknownVariant::Missing { operation: operation.name.clone(), place };
            assert_eq!(outcome(Value::Null), Err(missing.clone()), "{}", operation.name);
            for body in
                [None, Some(json!({})), Some(json!({"resources": []})), Some(json!({"resources": null}))]
            {
                assert_eq!(
                    Needs::of(&route(operation), None, body.as_ref()),
                    Err(missing.clone()),
                    "{body:?}"
                );
            }
        }
    }
}

#[test]
fn a_known_action_in_another_spelling_is_malformed() {
    for operation in Catalogue::embedded().operations() {
        for variants in &operation.variants {
            for known in &variants.known {
                let known = whole(known, variants.by_prefix);
                for spelling in [known.to_uppercase(), format!(" {known}"), known.replace('o', "O\u{200b}")] {
                    let mut example = Example::of(operation);
                    example.put(&variants.place, spelling.clone().into());
                    let parsed =
                        body::parse(&serde_json::to_vec(&example.body).unwrap(), Some(operation), &[]);
                    assert_eq!(parsed.is_ok(), spelling == known, "{} {spelling}", operation.name);
                }
                let mut example = Example::of(operation);
                let unknown = if variants.by_prefix { "do:gadget:1" } else { "frobnicate" };
                example.put(&variants.place, unknown.into());
                body::parse(&serde_json::to_vec(&example.body).unwrap(), Some(operation), &[]).unwrap();
            }
        }
    }
}

#[test_case("security_create_scan_rule", json!({"resource": "do:Droplet:1"}); "a urn in capitals")]
#[test_case("security_create_scan_rule", json!({"resource": "do:droplet = [1] #:1"}); "a urn that holds more")]
#[test_case("databases_update_firewall_rules", json!({"rules": [{"type": "Droplet", "value": "1"}]}); "beside, in capitals")]
fn a_kind_is_a_plain_word(name: &str, body: Value) {
    assert!(body::parse(&serde_json::to_vec(&body).unwrap(), Some(operation(name)), &[]).is_err());
}

#[test]
fn one_unknown_element_of_a_list_is_enough_to_refuse_it() {
    let body = json!({"resources": ["do:droplet:1", "do:gadget:2"]});
    let error = Needs::of(&route(operation("projects_assign_resources")), None, Some(&body)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "operation `projects_assign_resources` with body /resources/* = `do:gadget:2` is not in the catalogue"
    );
    let body = json!({"resources": [{"resource_type": "droplet"}, {}]});
    let error = Needs::of(&route(operation("tags_assign_resources")), None, Some(&body)).unwrap_err();
    assert!(matches!(error, UnknownVariant::Missing { .. }));
}

#[test]
fn every_condition_on_a_value_is_on_one_of_the_known_ones() {
    for operation in Catalogue::embedded().operations() {
        for condition in operation.conditions.iter().filter(|condition| condition.test != Test::Given) {
            let variants =
                operation.variants.iter().find(|variants| variants.place == condition.place).unwrap();
            let known = |text: &str| variants.known.iter().any(|known| **known == *text);
            assert!(match &condition.test {
                Test::Given => false,
                Test::Equals(value) => !variants.by_prefix && known(value),
                Test::StartsWith(prefix) => variants.by_prefix && known(prefix),
            });
        }
    }
}

#[test]
fn the_head_alone_says_what_no_body_could_take_back() {
    let operation = operation("dropletActions_post_byTag");
    let needs = Needs::of_head(&route(operation), Some("tag_name=web"));
    let words: Vec<&str> = needs.extras.iter().map(|extra| extra.scope.as_str()).collect();
    assert_eq!(words, ["tag:read"]);
    assert_eq!(named(&needs), ["tag web"]);
}

#[test_case(Method::POST, false; "making says nothing with it")]
#[test_case(Method::PUT, true; "replacing removes what is there")]
#[test_case(Method::PATCH, true; "changing removes what is there")]
fn empty_values_count_where_they_replace_something(method: Method, expected: bool) {
    let operation = Operation { method, ..operation("volumes_create").clone() };
    for body in [json!({"tags": []}), json!({"tags": null}), json!({"tags": ""})] {
        let needs = Needs::of(&route(&operation), None, Some(&body)).unwrap();
        assert_eq!(!needs.extras.is_empty(), expected, "{body}");
    }
    assert!(Needs::of(&route(&operation), None, Some(&json!({}))).unwrap().extras.is_empty());
}

#[test]
fn a_body_of_another_shape_never_needs_less() {
    let rules = operation("firewalls_add_rules");
    for body in [
        json!({"inbound_rules": {"0": {"sources": {"tags": ["a"]}}}}),
        json!({"inbound_rules": "tags"}),
        json!({"inbound_rules": [{"sources": "a"}]}),
        json!({"inbound_rules": [[{"sources": {"tags": ["a"]}}]]}),
        json!(["a"]),
    ] {
        let needs = Needs::of(&route(rules), None, Some(&body)).unwrap();
        assert_eq!(needs.extras.len(), 2, "{body}");
        let bytes = serde_json::to_vec(&body).unwrap();
        assert!(body::parse(&bytes, Some(rules), &[]).is_err(), "{body}");
    }
}

fn named(needs: &Needs<'_, '_>) -> Vec<String> {
    needs.resources.iter().map(|named| format!("{} {}", named.kind, named.value)).collect()
}

#[test_case("droplets_create", "", json!({"name": "web", "region": "nyc3", "size": "s-1vcpu-1gb", "image": 7, "tags": ["a", "b"]}),
    &["droplet web", "image 7", "region nyc3", "size s-1vcpu-1gb", "tag a", "tag b"]; "a new thing and what it is made of")]
#[test_case("droplets_create", "", json!({"names": ["a", "b"], "volumes": ["v", {"id": "w"}, {"name": "x"}], "ssh_keys": [1, "3b:16"]}),
    &["droplet a", "droplet b", "ssh_key 1", "ssh_key 3b:16", "volume v", "volume w", "volume x"]; "lists, and volumes as objects")]
#[test_case("droplets_create", "", json!({"name": "", "vpc_uuid": null, "tags": []}), &[]; "what says nothing")]
#[test_case("droplets_list", "name=web+1%2f", json!({}), &["droplet web 1/"]; "decoded query")]
#[test_case("droplets_list", "tag_name=web&name=a", json!({}), &["tag web"]; "a tag alone counts")]
#[test_case("droplets_list", "tag_name=&name=a", json!({}), &["droplet a"]; "an empty tag is none")]
#[test_case("droplets_list", "name=%FF", json!({}), &["droplet %FF"]; "no utf-8 stays as it is")]
#[test_case("volumes_delete_byName", "name=data&region=nyc3", json!({}), &["region nyc3", "volume data"]; "two parameters")]
#[test_case("volumeActions_post_byId", "", json!({"type": "attach", "droplet_id": 11, "region": "nyc1"}),
    &["volume 1", "droplet 11", "region nyc1"]; "the path before the body")]
#[test_case("volumeActions_post", "", json!({"type": "detach", "volume_name": "data", "droplet_id": "11"}),
    &["droplet 11", "volume data"]; "an id as text")]
#[test_case("tags_assign_resources", "", json!({"resources": [{"resource_id": "1", "resource_type": "droplet"},
    {"resource_id": "2", "resource_type": "database"}]}), &["tag 1", "droplet 1", "database_cluster 2"]; "the kind beside")]
#[test_case("projects_assign_resources", "", json!({"resources": ["do:droplet:1", "do:dbaas:2", "do:space:a.b", "do:app:c"]}),
    &["project 1", "droplet 1", "database_cluster 2", "space a.b", "app c"]; "urns")]
#[test_case("databases_update_firewall_rules", "", json!({"rules": [{"type": "ip_addr", "value": "10.0.0.1"},
    {"type": "k8s", "value": "k"}, {"type": "tag", "value": "t"}]}),
    &["database_cluster 1", "kubernetes_cluster k", "tag t"]; "an address is no resource")]
#[test_case("spacesKey_create", "", json!({"name": "k", "grants": [{"bucket": "a", "permission": "read"},
    {"bucket": "b", "permission": "readwrite"}]}), &["space a", "space b", "spaces_key k"]; "buckets")]
#[test_case("spacesKey_create", "", json!({"grants": [{"bucket": "a", "permission": "read"},
    {"bucket": "", "permission": "read"}]}), &["space a", "space *"]; "a grant of no bucket is for all of them")]
#[test_case("spacesKey_create", "", json!({"grants": [{"bucket": "a", "permission": "read"}, {"permission": "read"}]}),
    &["space a", "space *"]; "a grant without a bucket")]
#[test_case("spacesKey_create", "", json!({"grants": [{"bucket": "a", "permission": "fullaccess"}]}),
    &["space a", "space *"]; "full access is to all buckets")]
#[test_case("spacesKey_update", "", json!({"grants": [{"bucket": "a"}]}),
    &["spaces_key 1", "space a", "space *"]; "a grant without a permission")]
#[test_case("spacesKey_patch", "", json!({"grants": [{"bucket": "a", "permission": "read"}, null]}),
    &["spaces_key 1", "space a", "space *"]; "no grant at all may be any")]
#[test_case("spacesKey_list", "bucket=a", json!({}), &["space a"]; "a bucket in the query")]
#[test_case("vpcs_create_peerings", "", json!({"name": "p", "vpc_id": "2"}), &["vpc 1", "vpc 2", "vpc_peering p"]; "the other side")]
#[test_case("databases_create_cluster", "", json!({"name": "new", "backup_restore": {"database_name": "old"}}),
    &["database_cluster old", "database_cluster new"]; "where a copy comes from")]
#[test_case("loadBalancers_add_droplets", "", json!({"droplet_ids": [3, 4]}), &["load_balancer 1", "droplet 3", "droplet 4"]; "members")]
#[test_case("domains_create_record", "", json!({"type": "A", "name": "www", "data": "1.2.3.4"}), &["domain 1"]; "a record is its domain's")]
#[test_case("nfs_create_action", "", json!({"type": "reassign", "params": {"old_vpc_id": "a", "new_vpc_id": "b"}}),
    &["nfs_share 1", "vpc b", "vpc a"]; "inside an object")]
#[test_case("dropletActions_post", "", json!({"type": "rebuild", "image": "debian-12-x64"}), &["droplet 1", "image debian-12-x64"]; "what a droplet becomes")]
fn resources_are_found_in_path_query_and_body(name: &str, query: &str, body: Value, expected: &[&str]) {
    let found = needs(operation(name), query, &body).unwrap();
    assert_eq!(named(&found), expected);
}

#[test]
fn every_word_for_a_kind_is_a_kind_of_the_catalogue() {
    let kinds: Vec<&str> = Catalogue::embedded().kinds().map(|(kind, _)| kind).collect();
    let words = Catalogue::embedded().operations().iter().flat_map(|operation| &operation.variants);
    let mut checked = 0;
    for variants in words.filter(|variants| variants.place.to_string().starts_with("body /resources/*")) {
        for known in &variants.known {
            let word = known.strip_prefix("do:").unwrap_or(known).trim_end_matches(':');
            let kind = kind_of_word(word).unwrap();
            assert!(kinds.contains(&kind), "{word} is a {kind}");
            checked += 1;
        }
    }
    assert_eq!(checked, 2 * 5 + 2 * 10);
    for word in ["k8s", "app", "tag", "droplet"] {
        assert!(kinds.contains(&kind_of_word(word).unwrap()), "{word}");
    }
}

#[test]
fn a_value_in_a_message_is_shortened_and_shown_escaped() {
    let body = json!({"type": format!("a\n{}", "b".repeat(100))});
    let error = Needs::of(&route(operation("dropletActions_post")), None, Some(&body)).unwrap_err();
    let UnknownVariant::Value { value, .. } = error else { panic!("{error}") };
    assert_eq!(value, format!("a\\n{}…", "b".repeat(38)));
}
