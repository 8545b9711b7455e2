//! Modes: what the host tells everybody, whoever asks.

use crate::policy::Maintenance;
use crate::reply::Reply;
use std::fmt;

/// Whether mail is taken at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The rules decide.
    #[default]
    Open,
    /// 421 to everybody: come back later.
    Maintenance,
    /// 421 to everybody: the server is shutting down.
    Draining,
    /// 421 to everybody: the server has too much to do.
    Overloaded,
    /// 521 to everybody: this host takes no mail (RFC 7504).
    NoMail,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 5] = [Mode::Open, Mode::Maintenance, Mode::Draining, Mode::Overloaded, Mode::NoMail];

    /// The name that policies, commands and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Open => "open",
            Mode::Maintenance => "maintenance",
            Mode::Draining => "draining",
            Mode::Overloaded => "overloaded",
            Mode::NoMail => "no-mail",
        }
    }

    /// The mode of that name.
    pub fn named(name: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// What everybody is told by the policy; `None` if the rules decide.
    pub(crate) fn reply_with(self, maintenance: &Maintenance) -> Option<Reply> {
        maintenance.reply.clone().filter(|_| self == Mode::Maintenance).or_else(|| self.reply())
    }

    /// What everybody is told; `None` if the rules decide.
    pub fn reply(self) -> Option<Reply> {
        match self {
            Mode::Open => None,
            Mode::NoMail => Reply::host_no_mail(),
            Mode::Maintenance | Mode::Draining | Mode::Overloaded => Reply::named(self.name()),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
