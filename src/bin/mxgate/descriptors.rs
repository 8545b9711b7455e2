//! How many files the daemon may have open. Each connection is one, and the limit that a shell or systemd sets is meant for
//! programs that use select(): 1,024, although far more may be asked for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is open beside connections: listeners, the log, files of a load, the state directory.
const OTHERS: u64 = 80;

/// Raises the limit as far as so many connections need it. What is missing is told in the log: the daemon works without it.
pub(crate) fn allow_for(connections: u32) {
    let needed = u64::from(connections) + OTHERS;
    // As good as unlimited is the largest number that there is.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    if soft >= needed {
        return;
    }
    let wanted = needed.min(hard);
    let reached = if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    if reached < needed {
        log::warn!(
            "no more than {reached} files may be open, too few for {connections} connections, of which further ones will wait; \
             set LimitNOFILE={needed} in the unit of systemd, or `ulimit -n {needed}` before the start"
        );
    }
}
