//! DigitalOcean's own client libraries and tools, as they are: no setting tells them of tidegate. Those of Python are in
//! tests/capture/sessions.rs.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use test_case::test_case;
use tidegate_tests::{
    agent::{READ_ONLY, Ran},
    client::TOKEN,
    programs,
    scene::Scene,
};

/// What the sessions do.
const SUFFICIENT: &str = r#"
allow = [
    "api:read", "droplet:create", "droplet:delete",
    "block_storage:read", "image:read", "ssh_key:read", "vpc:read", "tag:create",
]
"#;

/// Variables by which one of them or another takes its token.
const TOKEN_VARIABLES: [&str; 3] = ["DIGITALOCEAN_TOKEN", "DIGITALOCEAN_API_TOKEN", "DO_API_TOKEN"];

#[derive(Clone, Copy, Debug)]
enum Sdk {
    /// The library for Go.
    Godo,
    /// A library of the community's for Node.
    DotsWrapper,
    /// The collection for Ansible.
    Ansible,
    /// The MCP server.
    Mcp,
}

impl Sdk {
    fn command(self) -> Result<Vec<String>> {
        let made = programs::runtimes()?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/runtimes");
        let source = |name: &str| sources.join(name).display().to_string();
        let made = |name: &str| made.join(name).display().to_string();
        Ok(match self {
            Sdk::Godo => vec![made("go/godo-session")],
            Sdk::DotsWrapper => {
                vec!["node".to_owned(), source("dots_session.mjs"), made("node/node_modules")]
            }
            Sdk::Ansible => vec![
                made("python/bin/python3"),
                made("python/bin/ansible-playbook"),
                "--inventory=localhost,".to_owned(),
                format!("--extra-vars=ansible_python_interpreter={}", made("python/bin/python3")),
                source("ansible-session.yml"),
            ],
            Sdk::Mcp => vec![
                "/usr/bin/python3".to_owned(),
                source("mcp_session.py"),
                "node".to_owned(),
                made("node/node_modules/@digitalocean/mcp/index.js"),
                "--services=droplets".to_owned(),
            ],
        })
    }

    /// What it calls itself to the API.
    fn user_agent(self) -> &'static str {
        match self {
            Sdk::Godo => "godo/",
            Sdk::DotsWrapper => "axios/",
            Sdk::Ansible => "ansible-httpget",
            Sdk::Mcp => "mcp-digitalocean",
        }
    }

    fn run(self, scene: &Scene, name: &str, policy: &str) -> Result<Ran> {
        let collections = programs::runtimes()?.join("collections").display().to_string();
        let mut tidegate = scene
            .tidegate(name)?
            .policy(name, policy)?
            .environment("ANSIBLE_COLLECTIONS_PATH", &collections)
            .environment("ANSIBLE_DEPRECATION_WARNINGS", "false");
        for variable in TOKEN_VARIABLES {
            tidegate = tidegate.environment(variable, TOKEN);
        }
        tidegate.run(&self.command()?)
    }
}

#[test_case(Sdk::Godo; "godo")]
#[test_case(Sdk::DotsWrapper; "dots-wrapper")]
#[test_case(Sdk::Ansible; "ansible")]
#[test_case(Sdk::Mcp; "the MCP server")]
fn a_session_needs_no_configuration(sdk: Sdk) -> Result<()> {
    let scene = Scene::new()?;
    let ran = sdk.run(&scene, "sufficient", SUFFICIENT)?;
    let told = ran.finished.text();
    ensure!(ran.finished.status.success() && told.contains("done"), "{ran:#?}");
    let requests = scene.requests()?;
    ensure!(requests.iter().any(|request| request.method == "DELETE"), "{requests:#?}");
    for request in &requests {
        let agent = request.header("user-agent").context("no user agent")?;
        ensure!(agent.contains(sdk.user_agent()), "{agent} is not {sdk:?}");
    }
    for record in ran.records.iter().filter(|record| record.phase() == "outcome") {
        ensure!(record.verdict() == "forwarded", "{record:?}");
    }
    Ok(())
}

#[test_case(Sdk::Godo; "godo")]
#[test_case(Sdk::DotsWrapper; "dots-wrapper")]
#[test_case(Sdk::Ansible; "ansible")]
#[test_case(Sdk::Mcp; "the MCP server")]
fn a_refused_call_is_shown_as_the_apis_own_refusals_are(sdk: Sdk) -> Result<()> {
    let scene = Scene::new()?;
    let ran = sdk.run(&scene, "read-only", READ_ONLY)?;
    ensure!(!ran.finished.status.success(), "{ran:#?}");
    let told = format!("{}{}", ran.finished.text(), ran.finished.stderr);
    for part in ["tidegate: workload", "missing scope droplet:"] {
        ensure!(told.contains(part), "`{part}` is not shown: {ran:#?}");
    }
    let requests = scene.requests()?;
    ensure!(requests.iter().all(|request| request.method == "GET"), "{requests:#?}");
    ensure!(!requests.is_empty(), "no read came through");
    Ok(())
}
