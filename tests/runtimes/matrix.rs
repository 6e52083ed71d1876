//! The matrix: what each runtime makes of the local CA, and of a CA of the user's own beside it.

use crate::runtimes::programs::{Runtime, command_line, own_setting};
use anyhow::{Context as _, Result, ensure};
use std::{fmt, fmt::Write as _};
use test_case::test_case;
use tidegate_tests::{
    agent::Tidegate,
    audit::outcomes,
    netns::addresses::{API_NAME, OTHER_NAME},
    scene::Scene,
};

const API: &str = "https://api.digitalocean.com/v2/account";
/// Passed on byte for byte, and its certificate is from the user's own CA.
const OTHER: &str = "https://other.example/v2/account";

/// What a client makes of a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It gets its answer.
    Works,
    /// It ends the connection.
    Refuses,
}

use Outcome::{Refuses, Works};

/// What becomes of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The API, as the program is started by anybody.
    plain: Outcome,
    /// The API, where nothing but PATH is in the environment.
    cleared: Outcome,
    /// The API, where the user has named a CA of their own.
    api_with_own: Outcome,
    /// The server of that CA.
    other_with_own: Outcome,
}

/// Nothing is missing.
pub(crate) const WORKS: Row =
    Row { plain: Works, cleared: Works, api_with_own: Works, other_with_own: Works };
/// Its roots are built in, and nothing but a variable reaches it.
pub(crate) const BY_VARIABLE: Row = Row { cleared: Refuses, ..WORKS };
/// It reads a file of the system's, and no variable names another.
pub(crate) const NO_VARIABLE: Row = Row { other_with_own: Refuses, ..WORKS };
/// Its roots are built in.
pub(crate) const BUILT_IN: Row =
    Row { plain: Refuses, cleared: Refuses, api_with_own: Refuses, other_with_own: Refuses };

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Works => "works",
            Refuses => "refuses",
        })
    }
}

fn line(runtime: &Runtime, row: Row) -> String {
    let own = if runtime.own.is_empty() { "-".to_owned() } else { format!("`{}`", runtime.own) };
    let Row { plain, cleared, api_with_own, other_with_own } = row;
    format!("| {} | {plain} | {cleared} | {own} | {api_with_own} | {other_with_own} |", runtime.name)
}

/// The table of docs/runtimes.md.
pub(crate) fn markdown(runtimes: &[Runtime]) -> String {
    let mut table = String::from(
        "| Program | as it is | `env -i` | its own variable | with a CA of the user's: the API | that CA's server |\n\
         |---|---|---|---|---|---|\n",
    );
    for runtime in runtimes {
        let _ = writeln!(table, "{}", line(runtime, runtime.expected));
    }
    table
}

#[test_case("curl (OpenSSL)"; "curl")]
#[test_case("openssl s_client"; "openssl")]
#[test_case("wget (GnuTLS)"; "wget")]
#[test_case("git"; "git")]
#[test_case("Python urllib, the system's"; "urllib of the system")]
#[test_case("Python requests, the system's"; "requests of the system")]
#[test_case("Python httpx, the system's"; "httpx of the system")]
#[test_case("Python aiohttp, the system's"; "aiohttp of the system")]
#[test_case("Python urllib, a venv's"; "urllib of a venv")]
#[test_case("Python requests, a venv's"; "requests of a venv")]
#[test_case("Python httpx, a venv's"; "httpx of a venv")]
#[test_case("Python aiohttp, a venv's"; "aiohttp of a venv")]
#[test_case("Node fetch"; "node fetch")]
#[test_case("Node https"; "node https")]
#[test_case("Deno fetch"; "deno")]
#[test_case("Bun fetch"; "bun")]
#[test_case("Java HttpClient"; "java")]
#[test_case("Go net/http"; "go")]
#[test_case("Ruby Net::HTTP"; "ruby")]
#[test_case("Perl LWP"; "perl lwp")]
#[test_case("Perl HTTP::Tiny"; "perl http tiny")]
#[test_case("PHP streams"; "php streams")]
#[test_case("PHP curl"; "php curl")]
#[test_case("Rust rustls-native-certs"; "rust with the systems roots")]
#[test_case("Rust webpki-roots"; "rust with roots of its own")]
fn a_runtime_trusts_as_the_document_says(name: &str) -> Result<()> {
    let runtime = crate::runtimes::programs::RUNTIMES.iter().find(|runtime| runtime.name == name);
    let runtime = runtime.context("no such runtime")?;
    let scene = Scene::new()?;
    let (plain, stranger) =
        try_out(&scene, scene.tidegate("plain")?, &command_line(runtime, &[API, OTHER])?)?;
    // The proof that nothing but what is tried makes it trust the other server.
    ensure!(stranger == Refuses, "without any setting it trusts a CA that nobody has told it of");

    let path = "PATH=/usr/local/bin:/usr/bin:/bin";
    let bare = [&["env", "-i", path].map(str::to_owned)[..], &command_line(runtime, &[API])?].concat();
    let (cleared, _) = try_out(&scene, scene.tidegate("cleared")?, &bare)?;

    let ca_file = scene.standin.ca_file().display().to_string();
    let mut tidegate = scene.tidegate("own")?;
    for variable in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"] {
        tidegate = tidegate.environment(variable, &ca_file);
    }
    if !runtime.own.is_empty() {
        tidegate = tidegate.environment(runtime.own, &own_setting(runtime.own, &scene.world, &ca_file)?);
    }
    let (api_with_own, other_with_own) = try_out(&scene, tidegate, &command_line(runtime, &[API, OTHER])?)?;
    let row = Row { plain, cleared, api_with_own, other_with_own };
    println!("{}", line(runtime, row));
    ensure!(
        row == runtime.expected,
        "\n{} instead of\n{}",
        line(runtime, row),
        line(runtime, runtime.expected)
    );
    Ok(())
}

/// What the program makes of the API and of the other server; both ends and the record must say the same.
fn try_out(scene: &Scene, tidegate: Tidegate<'_>, command: &[String]) -> Result<(Outcome, Outcome)> {
    let before = scene.requests()?.len();
    let ran = tidegate.run(command)?;
    let requests = scene.requests()?.split_off(before);
    let told = ran.finished.text();
    let of = |url: &str, name: &str| {
        let answered = told.lines().any(|line| line == format!("{url} 200"));
        let arrived = requests.iter().any(|request| request.authority.as_deref() == Some(name));
        (answered, arrived)
    };
    let outcomes = outcomes(&ran.records);
    let judged = outcomes.iter().any(|record| record.request().starts_with("GET /v2/account"));
    let rejected = outcomes.iter().any(|record| record.reason() == "client_rejected_ca");
    let api = match (of(API, API_NAME).0, judged, rejected) {
        (true, true, false) => Works,
        (false, false, true) => Refuses,
        contradiction => anyhow::bail!("(answered, judged, rejected) is {contradiction:?}: {ran:#?}"),
    };
    let other = match of(OTHER, OTHER_NAME) {
        (true, true) => Works,
        (false, false) => Refuses,
        contradiction => anyhow::bail!("(answered, arrived) is {contradiction:?}: {ran:#?}"),
    };
    Ok((api, other))
}
