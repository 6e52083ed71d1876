//! What is known of the Kubernetes API server, where the configuration says that it counts.

use super::{Check, told};
use crate::{
    cluster::{
        State,
        state::{Error, FILE_NAME, KEPT},
    },
    config::{Kubernetes, STATE_DIR},
};
use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// Somebody who is there shows it more often.
const SILENT: Duration = Duration::from_secs(180);

pub(super) fn examine(config: &Kubernetes) -> Option<Check> {
    config.watch.then(|| {
        let file = config.directory.join(FILE_NAME);
        judge(&file, State::read(&file), State::read(&Path::new(STATE_DIR).join(KEPT)))
    })
}

fn judge(
    file: &Path,
    told_now: Result<(State, SystemTime), Error>,
    kept: Result<(State, SystemTime), Error>,
) -> Check {
    const NAME: &str = "api_server";
    let advice = format!(
        "look at the log of `tidegate cluster`, which writes {}: it needs a service account's token and the \
         definitions of deploy/kubernetes/crds",
        file.display()
    );
    let problem = match told_now {
        Ok((State { unreached: Some(why), .. }, _)) => why,
        Ok((_, touched)) if touched.elapsed().is_ok_and(|age| age > SILENT) => {
            "`tidegate cluster` has told nothing any more".to_owned()
        }
        Ok((State { taint: Some(why), .. }, _)) => {
            let seen = format!("the taint of new nodes cannot be taken off this one: {why}");
            let advice = "see `Nodes that are new` in docs/kubernetes.md; pods that do not tolerate it stay away meanwhile";
            return Check::warning(NAME, seen, advice.to_owned());
        }
        Ok((State { policies, bindings, pods, .. }, _)) => {
            let (policies, bindings, pods) = (policies.len(), bindings.len(), pods.len());
            let seen = format!(
                "{policies} ScopePolicies, {bindings} ScopeBindings and {pods} pods of this node are known"
            );
            return Check::ok(NAME, seen);
        }
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            format!("there is no {}", file.display())
        }
        Err(error) => format!("{}: {}", file.display(), told(&error)),
    };
    match kept {
        Ok(_) => Check::warning(NAME, format!("{problem}; what was known last counts"), advice),
        Err(_) => {
            Check::failed(NAME, format!("{problem}, and nothing was ever known: pods are held"), advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{Failed, Ok as Fine, Warning},
        *,
    };
    use test_case::test_case;

    fn missing() -> Result<(State, SystemTime), Error> {
        Err(io::Error::from(io::ErrorKind::NotFound).into())
    }

    fn fresh(unreached: Option<&str>) -> Result<(State, SystemTime), Error> {
        let state = State { unreached: unreached.map(str::to_owned), ..State::default() };
        Ok((state, SystemTime::now()))
    }

    fn tainted() -> Result<(State, SystemTime), Error> {
        Ok((State { taint: Some("forbidden".to_owned()), ..State::default() }, SystemTime::now()))
    }

    #[test_case(fresh(None), missing(), Fine, "0 ScopePolicies"; "told")]
    #[test_case(missing(), missing(), Failed, "pods are held"; "nothing was ever known")]
    #[test_case(missing(), fresh(None), Warning, "there is no /f; what was known last counts"; "after a start")]
    #[test_case(fresh(Some("refused")), fresh(None), Warning, "refused; what"; "out of reach")]
    #[test_case(tainted(), fresh(None), Warning, "off this one: forbidden"; "the node keeps its taint")]
    #[test_case(Err(Error::Writable(0o666)), fresh(None), Warning, "writable by group or others"; "not to be believed")]
    #[test_case(Ok((State::default(), SystemTime::UNIX_EPOCH)), fresh(None), Warning, "nothing any more"; "silent")]
    fn what_is_known_is_judged(
        now: Result<(State, SystemTime), Error>,
        kept: Result<(State, SystemTime), Error>,
        status: super::super::Status,
        seen: &str,
    ) {
        let check = judge(Path::new("/f"), now, kept);
        assert_eq!(check.status, status);
        assert!(check.seen.contains(seen), "{}", check.seen);
    }

    #[test]
    fn where_nobody_asks_nothing_is_examined() {
        assert_eq!(examine(&Kubernetes::default()), None);
    }
}
