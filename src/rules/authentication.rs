//! What SPF, DKIM, DMARC and reverse DNS came to, as the mail server tells it, and what is answered (RFC 7372).

use crate::contents::Reason;
use crate::facts::{AuthResult, Facts};
use crate::policy::{self, AuthRule, Check, Exempt};
use crate::reply::Reply;
use crate::ruleset::Ruleset;
use crate::seat::Seat;
use crate::tally::Tally;
use std::sync::Arc;

/// Its name in the policy, and where a verdict names the lists that would have refused.
pub(crate) const AUTHENTICATION: &str = "authentication";

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

    /// The reply to a message, as [`policy::Authentication::refuses`]; whether it refuses or is only watched is
    /// `policy.shadow`. In any case it is a hit, if it is `counted`.
    pub(crate) fn decide(&self, facts: &Facts<'_>, situation: Exempt, counted: Option<Seat>) -> Option<&Reply> {
        if self.policy.exempt.meets(situation) {
            return None;
        }
        let reply = self.policy.refuses(facts)?;
        if let Some(seat) = counted {
            self.hits.add(seat);
        }
        Some(reply)
    }
}

impl policy::Authentication {
    /// The rules that a message fails.
    pub(crate) fn failed(&self, facts: &Facts<'_>) -> impl Iterator<Item = &AuthRule> + Clone {
        self.rules.iter().filter(|rule| rule.check.result(facts) == rule.result)
    }

    /// The reply to a message whose checks came to this. Several that refuse it for good are one reply (RFC 7372
    /// section 4); one that does wins over those that put it off.
    pub(crate) fn refuses(&self, facts: &Facts<'_>) -> Option<&Reply> {
        let failed = self.failed(facts);
        let mut permanent = failed.clone().filter(|rule| rule.reply.code >= 500);
        match (permanent.next(), permanent.next()) {
            (Some(_), Some(_)) if self.several.is_some() => self.several.as_ref(),
            (only, _) => only.or_else(|| failed.clone().next()).map(|rule| &rule.reply),
        }
    }
}

/// Which checks refuse a message, such as `spf=fail rdns=fail`.
pub(crate) fn failures<'a>(failed: impl Iterator<Item = &'a AuthRule>) -> Reason {
    let mut failures = Reason::new();
    for AuthRule { check, result, .. } in failed {
        for part in [if failures.is_empty() { "" } else { " " }, check.name(), "=", result.name()] {
            // Four checks with a result each fit.
            let _ = failures.try_push_str(part);
        }
    }
    failures
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

#[cfg(test)]
mod tests {
    use crate::facts::{AuthResult, Facts};
    use crate::gate::Gate;

    #[test]
    fn several_that_fail_are_one_reply_unless_that_is_ignored() {
        let facts = Facts { spf: AuthResult::Fail, rdns: AuthResult::Fail, ..Facts::default() };
        for (several, reply) in [
            ("", "550 5.7.26"),
            ("several_fail = \"reject\"", "550 5.7.26"),
            ("several_fail = \"550 5.7.1 Both\"", "550 5.7.1 Both"),
            ("several_fail = \"ignore\"", "550 5.7.23"),
        ] {
            let policy = format!("hostname = 'h'\n[authentication]\nspf_fail = \"reject\"\nrdns_fail = \"reject\"\n{several}\n");
            let gate = Gate::new();
            assert!(gate.load_text(&policy, "policy").is_ok());
            let rejection = gate.check_rcpt(&facts).rejection;
            assert!(rejection.is_some_and(|rejection| rejection.reply().starts_with(reply)), "{several}: {rejection:?}");
        }
    }
}
