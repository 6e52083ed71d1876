//! `tidegate cluster`: asks the Kubernetes API server for the daemon.

use super::Error;
use crate::config::file;
use clap::Args;
use std::path::PathBuf;

/// `tidegate cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// The configuration, which the daemon has as well
    #[arg(long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
    /// This node's name in Kubernetes; NODE_NAME of the environment, where it is not given
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// How to reach the API server, where this runs in no pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Take the taint `tidegate.dev/agent-not-ready` off this node once the agent beside this, which is asked at `[health]
    /// listen`, is ready
    #[arg(long)]
    pub remove_taint: bool,
}

/// Goes on until it is told to end.
///
/// # Errors
/// When the configuration is wrong, or it cannot begin.
#[cfg(feature = "kubernetes")]
pub fn run(args: &ClusterArgs) -> Result<u8, Error> {
    use crate::app::{self, cluster::Inquiry};
    let config = file::load(&args.config)?;
    let node = args.node.clone().or_else(|| std::env::var("NODE_NAME").ok());
    let node = node.filter(|node| !node.is_empty()).ok_or(Error::Daemon(app::Error::NoNode))?;
    let (kubeconfig, removes_taint) = (args.kubeconfig.clone(), args.remove_taint);
    let inquiry = Inquiry { config, node, kubeconfig, removes_taint };
    app::cluster::run(&inquiry).map_err(Error::Daemon)?;
    Ok(0)
}

/// Never.
///
/// # Errors
/// Always: this build lacks it.
#[cfg(not(feature = "kubernetes"))]
pub fn run(_args: &ClusterArgs) -> Result<u8, Error> {
    Err(Error::NoCluster)
}
