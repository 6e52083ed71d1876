//! The kernel side of one command: captured is what its cgroup connects to, and all of it is one workload's.

use super::{
    Error, Job,
    agent::{self, Agent, Plan, Taken},
    reload::Bell,
};
use crate::{
    capture::{self, Capture, Options, listener, pins::Pins},
    config,
    decide::store::PolicyFile,
    identify::{Workload, Workloads, cgroups::Cgroups},
    run::Enclosure,
    session::protected::mirror,
};
use std::sync::Arc;

/// Attaches, listens and fills the maps, in an order in which a subject could at no moment pass.
pub(super) async fn start(
    enclosure: &Enclosure,
    job: Job,
    files: Arc<[PolicyFile]>,
    bell: Bell,
) -> Result<Agent, Error> {
    let Job { config, workload, policy, policies, .. } = job;
    let cgroup = enclosure.cgroup().path().to_owned();
    let workload = Workload { name: workload.into(), policy: policy.into() };
    let cgroups = Arc::new(Cgroups::new(agent::mount_of(&cgroup), cgroup.clone()));
    let ports = agent::ports(&config);
    let workloads = Arc::new(Workloads::only(workload, cgroups));
    // A command's CA ends with it, so that there is no key to steal; a user's own is there anyhow.
    let authority = config::Ca { ephemeral: true, ..config.ca.clone() };
    let mut agent = Agent::build(Plan {
        config,
        workloads,
        policies,
        files,
        bell,
        running: None,
        addresses: None,
        authority,
        proxy: None,
    })
    .await?;
    agent.follow_authority(None);
    let captured = agent.captured.clone();
    let options = Options {
        cgroup: &cgroup,
        pins: &Pins::Private(enclosure.pins()),
        sticky_tags: false,
        packet_sockets: false,
        ports: &ports,
        forward_proxies: &captured,
        flows: capture::DEFAULT_FLOWS,
    };
    capture(&options, &mut agent)?;
    Ok(agent)
}

fn capture(options: &Options<'_>, agent: &mut Agent) -> Result<(), capture::Error> {
    let mut capture = Capture::start(options)?;
    let listeners = listener::bind(
        &agent.own_sockets,
        &[options.ports, agent.proxies.ports()].concat(),
        [false; 2],
        |_, _| None,
    )?;
    if listeners.is_empty() {
        tracing::warn!(
            "this network namespace has no global route, neither of IPv4 nor of IPv6: every connection of the \
             command to a captured port is refused, to this machine too"
        );
    }
    for listener in &listeners {
        capture.listeners.publish(listener.netns_cookie, listener.address)?;
    }
    let protected = Arc::clone(&agent.addresses.whole().borrow());
    mirror::apply(&mut capture.protected, &protected);
    let (addresses, mut listed) = (Arc::clone(&agent.addresses), capture.protected);
    agent.spawn(async move { mirror::mirror(&addresses, &mut listed).await });
    capture.subjects.add(options.cgroup)?;
    let Capture { flows, events, log, forward_proxies, .. } = capture;
    agent.serve(Taken { flows, events, log, forward_proxies, listeners, canary: None });
    Ok(())
}
