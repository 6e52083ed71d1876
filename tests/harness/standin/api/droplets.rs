//! The account's Droplets: the one thing that the stand-in keeps, so that a refused deletion can be seen to have
//! changed nothing.

use super::{Answer, error, json_answer, respond};
use bytes::Bytes;
use http::{Method, StatusCode, request::Parts};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

const DROPLETS: &str = include_str!("../../../fixtures/api/droplets.json");

/// The Droplets of the stand-in's account.
#[derive(Debug)]
pub(in crate::standin) struct Account {
    droplets: Mutex<Vec<Value>>,
}

impl Default for Account {
    fn default() -> Self {
        let droplets = serde_json::from_str(DROPLETS).unwrap_or_default();
        Self { droplets: Mutex::new(droplets) }
    }
}

/// The answer to a request for Droplets; none where the path is another's.
pub(super) fn answer(head: &Parts, body: &[u8], account: &Account) -> Option<Answer> {
    let path = head.uri.path().strip_prefix("/v2/droplets")?;
    let mut droplets = account.droplets.lock().unwrap_or_else(PoisonError::into_inner);
    match (&head.method, path.split('/').collect::<Vec<_>>().as_slice()) {
        (&Method::GET, [""]) => Some(list(head.uri.query().unwrap_or_default(), &droplets)),
        (&Method::POST, [""]) => Some(create(body, &mut droplets)),
        (&Method::GET, ["", id]) => {
            let droplet = droplets.iter().find(|droplet| has_id(droplet, id));
            Some(
                droplet.map_or_else(missing, |droplet| {
                    json_answer(StatusCode::OK, &json!({ "droplet": droplet }))
                }),
            )
        }
        (&Method::DELETE, ["", id]) => {
            let before = droplets.len();
            droplets.retain(|droplet| !has_id(droplet, id));
            Some(if droplets.len() < before { no_content() } else { missing() })
        }
        (&Method::POST, ["", id, "actions"]) => {
            let action = json!({
                "id": 36_804_636, "status": "in-progress", "type": "reboot", "started_at": "2026-08-14T13:18:54Z",
                "resource_id": id.parse::<u64>().ok(), "resource_type": "droplet", "region_slug": "nyc3",
            });
            Some(json_answer(StatusCode::CREATED, &json!({ "action": action })))
        }
        _ => None,
    }
}

fn has_id(droplet: &Value, id: &str) -> bool {
    droplet.get("id").is_some_and(|known| known.as_u64() == id.parse().ok())
}

fn missing() -> Answer {
    error(StatusCode::NOT_FOUND, "not_found", "The resource you were accessing could not be found.")
}

pub(super) fn no_content() -> Answer {
    let mut answer = respond(StatusCode::NO_CONTENT, Bytes::new());
    answer.headers_mut().remove(http::header::CONTENT_TYPE);
    answer
}

fn list(query: &str, droplets: &[Value]) -> Answer {
    let number = |name: &str, usual: usize| -> usize {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .find_map(|(_, value)| value.parse().ok())
            .unwrap_or(usual)
            .max(1)
    };
    let (page, per_page) = (number("page", 1), number("per_page", 20));
    let last = droplets.len().div_ceil(per_page).max(1);
    let shown: Vec<&Value> = droplets.iter().skip((page - 1) * per_page).take(per_page).collect();
    let url =
        |page: usize| format!("https://api.digitalocean.com/v2/droplets?page={page}&per_page={per_page}");
    let links = if page < last {
        json!({ "pages": { "next": url(page + 1), "last": url(last) } })
    } else {
        json!({})
    };
    json_answer(
        StatusCode::OK,
        &json!({ "droplets": shown, "links": links, "meta": { "total": droplets.len() } }),
    )
}

fn create(body: &[u8], droplets: &mut Vec<Value>) -> Answer {
    let wanted: Value = serde_json::from_slice(body).unwrap_or_default();
    let (Some(name), Some(size)) = (wanted.get("name"), wanted.get("size")) else {
        let message = "You specified an invalid size for Droplet creation.";
        return error(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable_entity", message);
    };
    let id = 3_164_494 + droplets.len();
    let described = |field: &str| wanted.get(field).map(|slug| json!({ "slug": slug }));
    let droplet = json!({
        "id": id, "name": name, "size_slug": size, "status": "new", "locked": true,
        "region": described("region"), "image": described("image"), "tags": wanted.get("tags"),
        "created_at": "2026-08-14T16:29:21Z", "networks": { "v4": [], "v6": [] },
    });
    droplets.push(droplet.clone());
    let action = format!("https://api.digitalocean.com/v2/actions/{}", 7_515 + id);
    let actions = json!([{ "id": 7_515 + id, "rel": "create", "href": action }]);
    json_answer(StatusCode::ACCEPTED, &json!({ "droplet": droplet, "links": { "actions": actions } }))
}
