//! The kernel tier of `tidegate daemon`: many workloads on the real kernel, real programs, and the upstream's own log.
//! Root only.

mod daemon {
    mod identity;
}

/// The URL of an operation at the API.
fn api(path: &str) -> String {
    format!("https://api.digitalocean.com{path}")
}
