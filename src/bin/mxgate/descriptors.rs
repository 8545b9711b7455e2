//! How many files the daemon may have open. Each connection is one, and the limit that a shell or systemd sets is meant for
//! programs that use select(): 1,024, although far more may be asked for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open beside connections: listeners, the log, files of a load, the state directory.
const OTHERS: u64 = 80;

/// Raises the limit as far as so many connections need it. What is missing is told in the log: the daemon works without it.
pub(crate) fn allow_for(connections: u32) {
    let needed = u64::from(connections) + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    let Some(soft) = current.filter(|soft| *soft < needed) else { return };
    let wanted = maximum.map_or(needed, |hard| needed.min(hard));
    let reached = match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    if reached < needed {
        log::warn!(
            "no more than {reached} files may be open, too few for {connections} connections, of which further ones will wait; \
             set LimitNOFILE={needed} in the unit of systemd, or `ulimit -n {needed}` before the start"
        );
    }
}
