//! What SPF, DKIM, DMARC and reverse DNS came to, as the mail server tells it, and what is answered (RFC 7372).

use crate::facts::{AuthResult, Facts};
use crate::policy::{AuthRule, Authentication, Check};
use crate::reply::{MAX_VALUE, Reply};
use arrayvec::ArrayString;

/// Which checks refuse a message, such as `spf=fail rdns=fail`.
pub(crate) type Failures = ArrayString<MAX_VALUE>;

impl Authentication {
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
        let mut failures = Failures::new();
        for AuthRule { check, result, .. } in failed() {
            for part in [if failures.is_empty() { "" } else { " " }, check.name(), "=", result.name()] {
                // Four checks with a result each fit.
                failures.try_push_str(part).ok()?;
            }
        }
        Some((reply?, failures))
    }
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

    fn name(self) -> &'static str {
        match self {
            Check::Spf => "spf",
            Check::Dkim => "dkim",
            Check::Dmarc => "dmarc",
            Check::Rdns => "rdns",
        }
    }
}
