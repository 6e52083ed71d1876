//! The manifests, the chart and the definitions: valid to Kubernetes' own schemas, the same whichever way they are made,
//! and with files in them that the agent takes. Needs what `cargo xtask runtimes` makes.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use anyhow::{Context as _, Result, bail, ensure};
use cel::{Context, Program, Value as Cel};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tidegate_tests::programs;

const NAMESPACE: &str = "tidegate-system";
/// The newest Kubernetes that there are schemas of, and the oldest that the chart takes.
const VERSIONS: [&str; 2] = ["1.37", "1.30"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").canonicalize().unwrap()
}

fn tool(name: &str) -> Result<Command> {
    let path = programs::runtimes()?.join("kubernetes").join(name);
    ensure!(path.exists(), "{} is missing: run `cargo xtask runtimes` once, which makes it", path.display());
    Ok(Command::new(path))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let told = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        bail!("{command:?}: {told}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(told)
}

fn kustomize(directory: &str) -> Result<String> {
    output(tool("kubectl")?.arg("kustomize").arg(deploy().join("kubernetes").join(directory)))
}

fn helm(arguments: &[&str]) -> Result<String> {
    let mut command = tool("helm")?;
    command.args(["template", "tidegate"]).arg(deploy().join("helm/tidegate"));
    output(command.args(["--namespace", NAMESPACE, "--include-crds"]).args(arguments))
}

/// The documents of a text of YAML.
fn documents(text: &str) -> Result<Vec<Value>> {
    let file = written(text)?;
    json(&[file.path()])
}

fn json(paths: &[&Path]) -> Result<Vec<Value>> {
    let lines = output(tool("bin/python3")?.arg(script()).arg("json").args(paths))?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/manifests.py")
}

fn written(text: &str) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn by_name(documents: Vec<Value>) -> BTreeMap<String, Value> {
    let name = |document: &Value| {
        let text = |pointer| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        format!("{} {}", text("/kind"), text("/metadata/name"))
    };
    documents.into_iter().map(|document| (name(&document), document)).collect()
}

/// The configuration's own ways to say that it has changed are taken out: a name with a hash, or an annotation.
fn without_hashes(text: &str) -> Result<BTreeMap<String, Value>> {
    let name = text.split_whitespace().find(|word| word.starts_with("tidegate-config-"));
    let text = name.map_or_else(|| text.to_owned(), |name| text.replace(name, "tidegate-config"));
    let mut objects = by_name(documents(&text)?);
    for object in objects.values_mut() {
        if let Some(Value::Object(annotations)) = object.pointer_mut("/spec/template/metadata/annotations") {
            annotations.remove("checksum/config");
        }
    }
    Ok(objects)
}

fn validate(text: &str) -> Result<()> {
    let file = written(text)?;
    for version in VERSIONS {
        let mut validate = tool("bin/kubernetes-validate")?;
        output(validate.args(["--strict", "--quiet", "-k", version]).arg(file.path()))?;
    }
    Ok(())
}

#[test]
fn the_manifests_are_valid_to_kubernetes() -> Result<()> {
    let base = kustomize("base")?;
    validate(&base)?;
    let broken = base.replace("hostNetwork:", "hostNetwrk:");
    ensure!(validate(&broken).is_err(), "a misspelt key went unnoticed");
    Ok(())
}

#[test]
fn the_chart_is_valid_however_it_is_used() -> Result<()> {
    let mut lint = tool("helm")?;
    output(lint.args(["lint", "--strict", "--quiet"]).arg(deploy().join("helm/tidegate")))?;
    validate(&helm(&[])?)?;
    let digest = format!("image.digest=sha256:{}", "a".repeat(64));
    let used = [
        "--set",
        &digest,
        "--set",
        "imagePullSecrets[0].name=registry",
        "--set",
        "policies.one=allow = []",
        "--set",
        "env[0].name=https_proxy",
        "--set",
        "env[0].value=http://proxy:3128",
        "--set",
        "health.port=9100",
        "--set",
        "nodeSelector=null",
        "--set",
        "tolerations=null",
        "--set",
        "updateStrategy.type=OnDelete",
        "--set",
        "updateStrategy.rollingUpdate=null",
    ];
    let text = helm(&used)?;
    validate(&text)?;
    let objects = by_name(documents(&text)?);
    let container = &objects["DaemonSet tidegate"]["spec"]["template"]["spec"]["containers"][0];
    ensure!(container["image"] == format!("tidegate@sha256:{}", "a".repeat(64)), "{container}");
    ensure!(container["env"][0]["value"] == "http://proxy:3128", "{container}");
    let policies = &objects["ConfigMap tidegate-policies"]["data"];
    ensure!(*policies == serde_json::json!({ "one.toml": "allow = []" }), "{policies}");
    for wrong in [
        "image.digest=sha256:1",
        "health.port=0",
        "policies.a/b=x",
        "replicas=3",
        "image.pullPolicy=Sometimes",
    ] {
        ensure!(helm(&["--set", wrong]).is_err(), "`{wrong}` was taken");
    }
    Ok(())
}

#[test]
fn chart_and_manifests_make_the_same_objects() -> Result<()> {
    let mut manifests = without_hashes(&kustomize("base")?)?;
    let chart = without_hashes(&helm(&[])?)?;
    // A release lies in its namespace, and cannot make it.
    ensure!(manifests.remove("Namespace tidegate-system").is_some());
    ensure!(manifests.keys().eq(chart.keys()), "{:?}\n{:?}", manifests.keys(), chart.keys());
    for (name, object) in &manifests {
        ensure!(chart[name] == *object, "{name}:\n{object}\n{}", chart[name]);
    }
    // The PodMonitor is an option of the one and a component of the other.
    let monitor = without_hashes(&helm(&["--set", "podMonitor.enabled=true"])?)?;
    let component = json(&[&deploy().join("kubernetes/components/podmonitor/podmonitor.yaml")])?;
    ensure!(monitor["PodMonitor tidegate"]["spec"] == component[0]["spec"], "{monitor:?}");
    Ok(())
}

/// Where the taint of new nodes is to be taken off, and nowhere else, nodes may be changed.
#[test]
fn the_right_to_change_nodes_comes_with_the_taint_alone() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let overlay = directory.path().join("overlay");
    fs::create_dir(&overlay)?;
    for name in ["base", "crds", "components"] {
        std::os::unix::fs::symlink(deploy().join("kubernetes").join(name), directory.path().join(name))?;
    }
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: NAMESPACE\n\
        resources: [../base]\ncomponents: [../components/node-taint]\n";
    let made = |namespace: &str| {
        fs::write(overlay.join("kustomization.yaml"), text.replace("NAMESPACE", namespace))?;
        output(tool("kubectl")?.args(["kustomize", "--load-restrictor=LoadRestrictionsNone"]).arg(&overlay))
    };
    let (with, chart) = (made(NAMESPACE)?, helm(&["--set", "nodeTaint.enabled=true"])?);
    validate(&with)?;
    validate(&chart)?;
    let (mut with, chart) = (without_hashes(&with)?, without_hashes(&chart)?);
    ensure!(with.remove("Namespace tidegate-system").is_some());
    ensure!(with == chart, "{with:?}\n{chart:?}");
    let elsewhere = by_name(documents(&made("elsewhere")?)?);
    for name in ["ClusterRoleBinding tidegate", "ClusterRoleBinding tidegate-node-taint"] {
        ensure!(elsewhere[name]["subjects"][0]["namespace"] == "elsewhere", "{}", elsewhere[name]);
    }

    let role = with.remove("ClusterRole tidegate-node-taint").context("no role")?;
    let rules = serde_json::json!([{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"] }]);
    ensure!(role["rules"] == rules, "{role}");
    ensure!(with.remove("ClusterRoleBinding tidegate-node-taint").is_some());
    let arguments = with
        .get_mut("DaemonSet tidegate")
        .and_then(|set| set.pointer_mut("/spec/template/spec/containers/1/args"))
        .and_then(Value::as_array_mut)
        .context("no arguments")?;
    ensure!(arguments.pop() == Some("--remove-taint".into()), "{arguments:?}");
    let mut base = without_hashes(&kustomize("base")?)?;
    base.remove("Namespace tidegate-system");
    ensure!(with == base, "{with:?}\n{base:?}");
    // Nobody would take it off.
    ensure!(helm(&["--set", "nodeTaint.enabled=true,cluster.enabled=false"]).is_err());
    ensure!(helm(&["--set", "nodeTaint.enabled=yes"]).is_err() && helm(&["--set", "nodeTaint.a=1"]).is_err());
    Ok(())
}

/// What the comments of the manifest promise.
#[test]
fn the_agent_has_no_more_than_it_needs() -> Result<()> {
    let objects = by_name(documents(&kustomize("base")?)?);
    let spec = &objects["DaemonSet tidegate"]["spec"];
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    ensure!(context["privileged"] == false && context["readOnlyRootFilesystem"] == true, "{context}");
    ensure!(context["capabilities"]["drop"] == serde_json::json!(["ALL"]), "{context}");
    // On the node's network a declared port would be the node's, and keep the next agent away.
    ensure!(container.get("ports").is_none(), "{container}");
    ensure!(
        spec["updateStrategy"]["rollingUpdate"] == serde_json::json!({ "maxSurge": 1, "maxUnavailable": 0 })
    );
    let units = ["tidegate.service", "tidegate-cover@.service"];
    let units = units.map(|unit| fs::read_to_string(deploy().join("systemd").join(unit)));
    let units = units.into_iter().collect::<Result<Vec<String>, _>>()?;
    let mut of_unit: Vec<&str> = units
        .iter()
        .flat_map(|unit| unit.lines())
        .filter_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .flat_map(str::split_whitespace)
        .filter_map(|name| name.strip_prefix("CAP_"))
        .collect();
    let added = context["capabilities"]["add"].as_array().context("no capabilities")?;
    let mut added: Vec<&str> = added.iter().filter_map(Value::as_str).collect();
    // The limits that systemd sets.
    of_unit.push("SYS_RESOURCE");
    // Stores that units read are copied with their owners; of what pods read, only the certificates are.
    of_unit.retain(|name| !["DAC_OVERRIDE", "FOWNER"].contains(name));
    of_unit.sort_unstable();
    of_unit.dedup();
    added.sort_unstable();
    ensure!(added == of_unit, "the units have {of_unit:?}, and the container {added:?}");
    let account = &objects["ServiceAccount tidegate"];
    ensure!(account["automountServiceAccountToken"] == serde_json::json!(false), "{account}");
    Ok(())
}

/// Whoever has the token has nothing else, and what it may do at the API server is what it does.
#[test]
fn the_one_with_the_token_has_no_privilege_and_the_agent_no_token() -> Result<()> {
    let objects = by_name(documents(&kustomize("base")?)?);
    let pod = &objects["DaemonSet tidegate"]["spec"]["template"]["spec"];
    let (agent, cluster) = (&pod["containers"][0], &pod["containers"][1]);
    let mounts = |container: &Value, name: &str| -> Vec<Value> {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        mounts.filter(|mount| mount["name"] == name).cloned().collect()
    };
    ensure!(mounts(agent, "token").is_empty() && mounts(cluster, "token").len() == 1, "{pod}");
    ensure!(mounts(agent, "cluster")[0]["readOnly"] == true, "{agent}");
    ensure!(mounts(cluster, "cluster")[0]["readOnly"].is_null(), "{cluster}");
    let context = &cluster["securityContext"];
    ensure!(context["runAsNonRoot"] == true && context["allowPrivilegeEscalation"] == false, "{context}");
    ensure!(context["capabilities"] == serde_json::json!({ "drop": ["ALL"] }), "{context}");
    let host_paths = pod["volumes"].as_array().context("no volumes")?.iter();
    let host_paths = host_paths.filter(|volume| volume.get("hostPath").is_some());
    for volume in host_paths {
        let name = volume["name"].as_str().unwrap_or_default();
        ensure!(mounts(cluster, name).is_empty(), "{name} is the node's");
    }
    let rules = serde_json::json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["tidegate.dev"], "resources": ["scopepolicies", "scopebindings"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["tidegate.dev"], "resources": ["scopepolicies/status", "scopebindings/status"], "verbs": ["update", "patch"] },
    ]);
    ensure!(objects["ClusterRole tidegate"]["rules"] == rules, "{}", objects["ClusterRole tidegate"]);
    let roles = objects.keys().filter(|name| name.contains("Role")).count();
    ensure!(roles == 2, "{:?}", objects.keys());
    let without = helm(&["--set", "cluster.enabled=false"])?;
    validate(&without)?;
    let without = by_name(documents(&without)?);
    ensure!(!without.keys().any(|name| name.contains("Role")), "{:?}", without.keys());
    let containers = without["DaemonSet tidegate"]["spec"]["template"]["spec"]["containers"].as_array();
    ensure!(containers.map(Vec::len) == Some(1), "{containers:?}");
    Ok(())
}

#[test]
fn the_agent_takes_the_files_of_the_config_maps() -> Result<()> {
    let objects = without_hashes(&kustomize("base")?)?;
    let directory = tempfile::tempdir()?;
    let policies = directory.path().join("policies");
    fs::create_dir(&policies)?;
    let text = |name: &str, key: &str| {
        let text = objects[name]["data"][key].as_str();
        text.map(str::to_owned).with_context(|| format!("{name} has no {key}"))
    };
    for key in objects["ConfigMap tidegate-policies"]["data"].as_object().context("no policies")?.keys() {
        fs::write(policies.join(key), text("ConfigMap tidegate-policies", key)?)?;
    }
    let config = text("ConfigMap tidegate-config", "tidegate.toml")?;
    ensure!(config.contains("policy_dir = \"/etc/tidegate/policies\""));
    // The address that the probes ask.
    let probe = &objects["DaemonSet tidegate"]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
        ["httpGet"];
    let address = format!("{}:{}", probe["host"].as_str().unwrap_or_default(), probe["port"]);
    ensure!(config.contains(&format!("listen = \"{address}\"")), "{address} is not in {config}");
    let file = directory.path().join("tidegate.toml");
    fs::write(&file, config.replace("/etc/tidegate/policies", &policies.display().to_string()))?;
    check(&[&file, &policies]).map(drop)
}

fn check(paths: &[&Path]) -> Result<String> {
    output(Command::new(programs::built("tidegate")?).arg("check").args(paths))
}

fn files(directory: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(deploy().join("kubernetes").join(directory))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{directory} is empty");
    Ok(files)
}

/// What the definitions say of these documents: their schemas, and the conditions in them.
fn problems(documents: &[Value]) -> Result<Vec<Vec<String>>> {
    let definitions: Vec<PathBuf> =
        files("crds")?.into_iter().filter(|path| !path.ends_with("kustomization.yaml")).collect();
    let mut ask = tool("bin/python3")?;
    ask.arg(script()).arg("schema").args(&definitions).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut asked = ask.spawn()?;
    let mut lines = asked.stdin.take().context("no pipe")?;
    for document in documents {
        writeln!(lines, "{document}")?;
    }
    drop(lines);
    let told = asked.wait_with_output()?;
    ensure!(told.status.success(), "{ask:?} failed");
    let told = String::from_utf8(told.stdout)?;
    let mut problems: Vec<Vec<String>> =
        told.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    ensure!(problems.len() == documents.len());
    let paths: Vec<&Path> = definitions.iter().map(PathBuf::as_path).collect();
    for definition in json(&paths)? {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for (document, problems) in documents.iter().zip(&mut problems) {
            if document["kind"] == definition["spec"]["names"]["kind"] {
                conditions(schema, document, "", problems)?;
            }
        }
    }
    Ok(problems)
}

/// What the conditions of a schema refuse in a value.
fn conditions(schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) -> Result<()> {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().context("a condition without a rule")?;
        let program = Program::compile(text).map_err(|error| anyhow::anyhow!("{path}: `{text}`: {error}"))?;
        let mut context = Context::default();
        context.add_variable("self", value.clone()).map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
        match program.execute(&context) {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => problems.push(format!("{path}: {}", rule["message"])),
            other => bail!("{path}: `{text}`: {other:?}"),
        }
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(key) {
            conditions(below, value, &format!("{path}.{key}"), problems)?;
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conditions(&schema["items"], item, &format!("{path}[]"), problems)?;
    }
    Ok(())
}

#[test]
fn the_definitions_take_the_examples_and_so_does_check() -> Result<()> {
    let examples = files("examples")?;
    let examples: Vec<&Path> = examples.iter().map(PathBuf::as_path).collect();
    let documents = json(&examples)?;
    for (document, problems) in documents.iter().zip(problems(&documents)?) {
        ensure!(problems.is_empty(), "{document}: {problems:?}");
    }
    let told = check(&examples)?;
    ensure!(told.lines().filter(|line| line.ends_with("manifests, ok")).count() == examples.len(), "{told}");
    Ok(())
}

#[test]
fn what_the_agent_would_refuse_the_definitions_refuse_before() -> Result<()> {
    for path in files("examples/bad")? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let documents = json(&[&path])?;
        let problems = problems(&documents)?.concat();
        ensure!(!problems.is_empty(), "the definitions take {name}");
        ensure!(check(&[&path]).is_err(), "`tidegate check` takes {name}");
    }
    Ok(())
}
