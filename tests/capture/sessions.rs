//! Whole sessions of client libraries: recorded, turned into the least policy, and held to it.

use anyhow::{Context as _, Result, ensure};
use std::{path::Path, process::Command};
use test_case::test_case;
use tidegate_tests::{agent::Ran, client::TOKEN, programs, scene::Scene};

/// Forwards everything, and records what each call needs.
const RECORDING: &str = "mode = \"dry-run\"\n";

const PYDO: &str = "pydo_session.py";
const PYTHON_DIGITALOCEAN: &str = "python_digitalocean_session.py";

#[test_case(PYDO; "pydo")]
#[test_case(PYTHON_DIGITALOCEAN; "python-digitalocean")]
fn a_session_passes_under_the_policy_suggested_for_it(program: &str) -> Result<()> {
    let (suggested, recorded) = suggestion(program)?;
    let ran = session(program, "suggested", &suggested)?;
    ensure!(ran.finished.text().ends_with("done\n"), "{suggested}\n{ran:#?}");
    let outcomes: Vec<_> = ran.records.iter().filter(|record| record.phase() == "outcome").collect();
    for record in &outcomes {
        ensure!(record.verdict() == "forwarded", "{suggested}\n{record:?}");
    }
    ensure!(outcomes.len() == recorded, "{} calls instead of {recorded}", outcomes.len());
    Ok(())
}

#[test_case(PYDO, "droplet:create", "POST /v2/droplets"; "pydo and the creation")]
#[test_case(PYDO, "tag:create", "POST /v2/droplets"; "pydo and what a field of the creation needs")]
#[test_case(PYDO, "droplet:update", "POST /v2/droplets/3164497/actions"; "pydo and an action")]
#[test_case(PYDO, "droplet:delete", "DELETE /v2/droplets/3164497"; "pydo and the deletion")]
#[test_case(PYTHON_DIGITALOCEAN, "domain:read", "GET /v2/domains/example.com/records"; "python-digitalocean and a read")]
fn without_one_scope_a_session_is_refused_at_exactly_that_call(
    program: &str,
    scope: &str,
    refused: &str,
) -> Result<()> {
    let (suggested, _) = suggestion(program)?;
    let narrower = without(&suggested, scope);
    ensure!(narrower != suggested, "no {scope} in\n{suggested}");
    let ran = session(program, "narrower", &narrower)?;
    ensure!(!ran.finished.status.success(), "{narrower}\n{ran:#?}");
    let outcomes = ran.records.iter().filter(|record| record.phase() == "outcome");
    let (last, before) = {
        let mut outcomes: Vec<_> = outcomes.collect();
        (outcomes.pop().context("no records")?, outcomes)
    };
    for record in before {
        ensure!(record.verdict() == "forwarded", "{record:?} before {refused}");
    }
    ensure!(last.request() == refused && last.verdict() == "refused", "{last:?} instead of {refused}");
    ensure!(last.list("tidegate.scopes.missing") == [scope], "{last:?}");
    Ok(())
}

/// The policy with one scope taken out of every rule; a rule that has no other goes with it.
fn without(policy: &str, scope: &str) -> String {
    let alone = format!("scopes = [\"{scope}\"]");
    let rules = policy.split("\n\n").filter(|rule| !rule.contains(&alone));
    let rules = rules.collect::<Vec<_>>().join("\n\n");
    rules.replace(&format!("\"{scope}\", "), "").replace(&format!(", \"{scope}\""), "")
}

/// Runs the session under a policy, in a world of its own, so that each finds the same account.
fn session(program: &str, name: &str, policy: &str) -> Result<Ran> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("session")?.policy(name, policy)?.environment("DIGITALOCEAN_TOKEN", TOKEN);
    tidegate.run(&command(program)?)
}

fn command(program: &str) -> Result<[String; 2]> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(program);
    Ok([programs::python()?.display().to_string(), script.display().to_string()])
}

/// The policy that tidegate suggests for a recorded session, and how many calls it was made of.
fn suggestion(program: &str) -> Result<(String, usize)> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("session")?.policy("recording", RECORDING)?;
    let tidegate = tidegate.environment("DIGITALOCEAN_TOKEN", TOKEN);
    let ran = tidegate.run(&command(program)?)?;
    ensure!(ran.finished.text().ends_with("done\n"), "{ran:#?}");
    let calls = ran.records.iter().filter(|record| record.phase() == "outcome").count();
    let tool = programs::built("tidegate")?;
    let suggested = Command::new(&tool).args(["suggest", "--audit"]).arg(tidegate.audit()).output()?;
    ensure!(suggested.status.success(), "{suggested:?}");
    let text = String::from_utf8(suggested.stdout)?;
    let file = scene.world.write("suggested.toml", &text)?;
    let checked = Command::new(&tool).arg("check").arg(file).output()?;
    ensure!(checked.status.success(), "{checked:?}\n{text}");
    Ok((text, calls))
}
