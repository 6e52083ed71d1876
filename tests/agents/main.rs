//! Many nodes' `tidegate cluster` in one process, each with connections of its own: what they cost an API server is what
//! `cargo xtask agents` measures.
//!
//! `tidegate-agents COUNT KUBECONFIG CONFIG DIRECTORY` asks as the nodes `node-1` to `node-COUNT`, each of which writes below
//! a directory of its name, until it is ended.

use anyhow::{Context as _, Result, bail};
use std::{fs, io::Write as _, path::PathBuf};
use tidegate::{
    app::cluster::{Inquiry, ask},
    config::file,
    run::limits::OpenFiles,
};
use tokio::task::JoinSet;

fn main() -> Result<()> {
    OpenFiles::raise()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [count, kubeconfig, config, directory] = &arguments[..] else {
        bail!("usage: tidegate-agents COUNT KUBECONFIG CONFIG DIRECTORY")
    };
    let config = file::load(config.as_ref()).context("the configuration")?;
    let (count, kubeconfig) = (count.parse::<u32>()?, PathBuf::from(kubeconfig));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut agents = JoinSet::new();
        for number in 1..=count {
            let node = format!("node-{number}");
            let mut config = config.clone();
            config.kubernetes.directory = PathBuf::from(directory).join(&node);
            fs::create_dir_all(&config.kubernetes.directory)?;
            let inquiry =
                Inquiry { config, node, kubeconfig: Some(kubeconfig.clone()), removes_taint: false };
            agents.spawn(async move { ask(&inquiry).await });
        }
        match agents.join_next().await {
            Some(ended) => {
                writeln!(std::io::stderr(), "an agent has ended: {ended:?}")?;
                bail!("an agent has ended")
            }
            None => Ok(()),
        }
    })
}
