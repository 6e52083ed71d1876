//! The dashboard in deploy/grafana asks for what the daemon tells, and for nothing else.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;

const DASHBOARD: &str = include_str!("../../deploy/grafana/tidegate.json");

/// The label that Prometheus itself adds.
const SCRAPED: &str = "instance";

fn dashboard() -> Result<Value> {
    serde_json::from_str(DASHBOARD).context("the dashboard is no JSON")
}

fn panels(dashboard: &Value) -> Result<&[Value]> {
    Ok(dashboard.get("panels").and_then(Value::as_array).context("no panels")?)
}

/// What the panels and variables ask Prometheus.
fn questions(dashboard: &Value) -> Result<Vec<&str>> {
    let targets = panels(dashboard)?.iter().filter_map(|panel| panel.get("targets")?.as_array()).flatten();
    let variables =
        dashboard.pointer("/templating/list").and_then(Value::as_array).context("no variables")?;
    let of_variables = variables.iter().filter_map(|variable| variable.get("definition")?.as_str());
    Ok(targets.filter_map(|target| target.get("expr")?.as_str()).chain(of_variables).collect())
}

/// What the panels call what they show.
fn legends(dashboard: &Value) -> Result<Vec<&str>> {
    let targets = panels(dashboard)?.iter().filter_map(|panel| panel.get("targets")?.as_array()).flatten();
    Ok(targets.filter_map(|target| target.get("legendFormat")?.as_str()).collect())
}

/// The words that stand between two pairs of braces.
fn in_braces(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).map(str::trim)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
}

/// Fails with each metric and label that these metrics do not have.
pub(super) fn check(metrics: &str) -> Result<()> {
    let told = metrics.lines().filter(|line| !line.starts_with('#'));
    let told: BTreeSet<&str> = told.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let dashboard = dashboard()?;
    let questions = questions(&dashboard)?;
    let asked: BTreeSet<&str> =
        questions.iter().flat_map(|line| words(line)).filter(|word| word.starts_with("tidegate_")).collect();
    ensure!(asked.len() > 10, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&told).collect();
    ensure!(unknown.is_empty(), "the dashboard asks for {unknown:?}, and told is {told:?}");
    for label in
        legends(&dashboard)?.iter().flat_map(|legend| in_braces(legend)).filter(|label| *label != SCRAPED)
    {
        ensure!(metrics.contains(&format!("{label}=\"")), "no label `{label}`, which a legend names");
    }
    for question in questions {
        for labels in question.split("by (").skip(1).filter_map(|rest| rest.split(')').next()) {
            for label in words(labels).filter(|word| !word.is_empty()) {
                ensure!(metrics.contains(&format!("{label}=\"")), "no label `{label}`: {question}");
            }
        }
    }
    Ok(())
}

#[test]
fn every_panel_has_a_number_a_place_and_a_question_of_its_own() -> Result<()> {
    let dashboard = dashboard()?;
    let mut numbers = BTreeSet::new();
    let mut squares = BTreeSet::new();
    for panel in panels(&dashboard)? {
        let title = panel["title"].as_str().context("a panel without a title")?;
        assert!(numbers.insert(panel["id"].as_u64().context("a panel without a number")?), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or(99));
        assert!(x + w <= 24 && h > 0, "{title}");
        for square in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(squares.insert(square), "{title} lies over another at {square:?}");
        }
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert_eq!(targets == 0, panel["type"] == "row", "{title}");
    }
    Ok(())
}

#[test]
fn a_question_that_nothing_answers_is_found() {
    assert!(check("tidegate_healthy 1\n# EOF\n").is_err());
}
