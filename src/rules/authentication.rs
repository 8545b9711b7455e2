//! What SPF, DKIM, DMARC and reverse DNS came to, as the mail server tells it, and what is answered (RFC 7372).

use crate::facts::{AuthResult, Facts};
use crate::policy::{self, AuthRule, Check, Exempt, ListName};
use crate::reply::{MAX_VALUE, Reply};
use crate::ruleset::Ruleset;
use crate::tally::Tally;
use arrayvec::ArrayString;
use std::sync::Arc;

/// Its name in the policy, and where a verdict names the lists that would have refused.
pub(crate) const AUTHENTICATION: &str = "authentication";

/// Which checks refuse a message, such as `spf=fail rdns=fail`.
pub(crate) type Failures = ArrayString<MAX_VALUE>;

/// `[authentication]` in force.
#[derive(Debug, Default)]
pub(crate) struct Authentication {
    pub policy: policy::Authentication,
    /// How often it decided, or would have. Goes on over loads, as that of a list does.
    pub hits: Arc<Tally>,
}

impl Authentication {
    /// Counts on where the ruleset in force stopped.
    pub(crate) fn new(policy: policy::Authentication, previous: Option<&Ruleset>) -> Authentication {
        Authentication { policy, hits: previous.map(|previous| Arc::clone(&previous.authentication.hits)).unwrap_or_default() }
    }

    /// The reply to a message, as [`policy::Authentication::refuses`]. If this is only watched it is the name among those
    /// that would have refused; in any case it is a hit, if it is `counted`.
    pub(crate) fn decide(&self, facts: &Facts<'_>, situation: Exempt, counted: bool, shadow: &mut ListName) -> Option<(&Reply, Failures)> {
        if self.policy.exempt.meets(situation) {
            return None;
        }
        let refusal = self.policy.refuses(facts)?;
        if counted {
            self.hits.add();
        }
        if !self.policy.shadow {
            return Some(refusal);
        }
        if shadow.is_empty() {
            *shadow = ListName::from(AUTHENTICATION).unwrap_or_default();
        }
        None
    }
}

impl policy::Authentication {
    /// The reply to a message whose checks came to this. Several that refuse it for good are one reply (RFC 7372
    /// section 4); one that does wins over those that put it off.
    pub(crate) fn refuses(&self, facts: &Facts<'_>) -> Option<(&Reply, Failures)> {
        let failed = || self.rules.iter().filter(|rule| rule.check.result(facts) == rule.result);
        failed().next()?;
        let mut permanent = failed().filter(|rule| rule.reply.code >= 500);
        let reply = match (permanent.next(), permanent.next()) {
            (Some(_), Some(_)) => self.several.as_ref(),
            (only, _) => only.or_else(|| failed().next()).map(|rule| &rule.reply),
        };
        Some((reply?, failures(failed())?))
    }
}

/// Which checks refuse a message, in words.
pub(crate) fn failures<'a>(failed: impl Iterator<Item = &'a AuthRule>) -> Option<Failures> {
    let mut failures = Failures::new();
    for AuthRule { check, result, .. } in failed {
        for part in [if failures.is_empty() { "" } else { " " }, check.name(), "=", result.name()] {
            // Four checks with a result each fit.
            failures.try_push_str(part).ok()?;
        }
    }
    Some(failures)
}

impl Check {
    fn result(self, facts: &Facts<'_>) -> AuthResult {
        match self {
            Check::Spf => facts.spf,
            Check::Dkim => facts.dkim,
            Check::Dmarc => facts.dmarc,
            Check::Rdns => facts.rdns,
        }
    }

    /// What people call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Check::Spf => "SPF",
            Check::Dkim => "DKIM",
            Check::Dmarc => "DMARC",
            Check::Rdns => "reverse DNS",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Check::Spf => "spf",
            Check::Dkim => "dkim",
            Check::Dmarc => "dmarc",
            Check::Rdns => "rdns",
        }
    }
}
