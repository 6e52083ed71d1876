//! The kernel side's log lines, in the agent's own log.

use super::{Error, readable};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

/// The programs' log ring.
pub struct Log(AsyncFd<EbpfLogger<&'static dyn log::Log>>);

impl Log {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        let logger = EbpfLogger::init(programs).map_err(Error::Log)?;
        let logger = readable::watch(logger)
            .map_err(|source| Error::Io { action: "watch the kernel side's log".to_owned(), source })?;
        Ok(Self(logger))
    }

    /// Copies lines for as long as the ring can be watched.
    ///
    /// # Errors
    /// When it cannot be watched any more.
    pub async fn copy(mut self) -> std::io::Result<()> {
        loop {
            let mut guard = self.0.readable_mut().await?;
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }
}
