//! Whether a remote can be used.
//!
//! Purpose: count failures in a row, and leave a remote alone after several; say the first failure to the user.
//! Invariant: who may not write can still read: failures to write are counted apart, and what is only a help (leases,
//! times that are made young) is not counted at all.
//! Must not know: what is read or written.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use object_store::Error;

use super::error::{RemoteError, is_denied};
use super::explain::{explain, is_without_bucket};
use super::object::Remote;

/// After so many failures in a row a remote is left alone.
const MOST_FAILURES: u32 = 3;

/// How the requests to a remote went.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures in a row of reading.
    reads: AtomicU32,
    /// Failures in a row of writing.
    writes: AtomicU32,
    /// Whether it gave no lease, so that it is not asked for another one.
    without_leases: AtomicBool,
    reported: AtomicBool,
    unusable: AtomicBool,
}

impl Health {
    /// Whether it gives no leases.
    pub fn is_without_leases(&self) -> bool {
        self.without_leases.load(Ordering::Relaxed)
    }
}

impl Remote {
    /// Fails when the remote is left alone.
    pub fn check_alive(&self) -> Result<(), RemoteError> {
        self.check(&self.health.reads)
    }

    /// Fails when nothing is sent to the remote any more.
    pub(super) fn check_writable(&self) -> Result<(), RemoteError> {
        self.check_alive()?;
        self.check(&self.health.writes)
    }

    fn check(&self, failures: &AtomicU32) -> Result<(), RemoteError> {
        match failures.load(Ordering::Relaxed) < MOST_FAILURES {
            true => Ok(()),
            false => Err(RemoteError::LeftAlone(self.name.clone())),
        }
    }

    /// What reading gave; none for what is not there.
    pub(super) fn noted<T>(
        &self,
        what: &str,
        result: object_store::Result<T>,
    ) -> Result<Option<T>, RemoteError> {
        match result {
            // It answered.
            Err(error @ Error::NotFound { .. }) if !is_without_bucket(&error) => {
                self.health.reads.store(0, Ordering::Relaxed);
                Ok(None)
            }
            Ok(got) => {
                self.health.reads.store(0, Ordering::Relaxed);
                Ok(Some(got))
            }
            Err(error) => Err(self.failed(what, &error)),
        }
    }

    /// What writing gave.
    pub(super) fn done<T>(&self, what: &str, result: object_store::Result<T>) -> Result<(), RemoteError> {
        match result {
            Ok(_) => {
                self.health.writes.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.write_failed(what, &error)),
        }
    }

    /// Counts a failure of writing.
    pub(super) fn write_failed(&self, what: &str, error: &Error) -> RemoteError {
        let refused = self.refused(what, error);
        self.count_failure(&self.health.writes, &refused);
        refused
    }

    /// Counts a failure of reading.
    pub(super) fn failed(&self, what: &str, error: &Error) -> RemoteError {
        let refused = self.refused(what, error);
        self.count_failure(&self.health.reads, &refused);
        match refused {
            RemoteError::Request { remote, what, mut why }
                if is_denied(error) && self.address.scheme() == "s3" =>
            {
                why += " (S3 also says this of an object that is not there, to those who may not list the bucket; \
                        allow s3:ListBucket)";
                RemoteError::Request { remote, what, why }
            }
            refused => refused,
        }
    }

    /// A failure that does not count.
    pub(super) fn refused(&self, what: &str, error: &Error) -> RemoteError {
        explain(&self.name, &self.address, what, error)
    }

    /// Where every other request would fail, too, the remote is left alone at once.
    fn count_failure(&self, failures: &AtomicU32, error: &RemoteError) {
        match error {
            RemoteError::Unusable { .. } => self.health.reads.store(MOST_FAILURES, Ordering::Relaxed),
            _ => _ = failures.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A request to which there was no answer: the remote is left alone at once.
    pub(super) fn silent(&self, what: &str, time: Duration) -> RemoteError {
        self.health.reads.store(MOST_FAILURES, Ordering::Relaxed);
        let why = format!("nothing came for {} s", time.as_secs());
        RemoteError::Request { remote: self.name.clone(), what: what.to_owned(), why }
    }

    /// Asks for no more leases, and says why: a lease only saves work.
    pub(super) fn give_up_leases(&self, error: &RemoteError) {
        let was_known = self.health.without_leases.swap(true, Ordering::Relaxed);
        match error {
            RemoteError::Request { .. } if !was_known => tracing::warn!(
                "{error}; stages run without leases, and `kiln remote add --no-leases` asks for none in the first place"
            ),
            RemoteError::Request { .. } => {}
            // It cannot be used for anything else, either.
            _ => self.report(error),
        }
    }

    /// Whether it could not be asked for something, so that it may have more than was found.
    pub fn has_failed(&self) -> bool {
        self.health.unusable.load(Ordering::Relaxed)
    }

    /// Says a failure to the user: the first one of each remote, the others in the log for those who look for them.
    pub fn report(&self, error: &RemoteError) {
        let answered = matches!(error, RemoteError::Untrusted { .. } | RemoteError::WrongBytes { .. });
        self.health.unusable.fetch_or(!answered, Ordering::Relaxed);
        let next = if answered { "" } else { "; kiln goes on without the remote where it can" };
        if self.health.reported.swap(true, Ordering::Relaxed) {
            tracing::debug!("{error}");
        } else {
            tracing::warn!("{error}{next}");
        }
    }
}
