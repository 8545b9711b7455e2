//! The relay rule: mail for strangers is taken from friends only.

use super::names::Names;
use crate::contents::Contents;
use crate::domain::Place;
use crate::facts::Facts;
use crate::mailbox::Mailbox;
use crate::policy::Exempt;
use crate::reply::Reply;
use std::net::IpAddr;
use std::sync::Arc;

/// Whom mail is taken for, and from whom for everybody.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// What is answered; `None` if relaying is the mail server's business.
    pub reply: Option<Reply>,
    /// Local domains, and those that mail is passed on to.
    pub domains: Names,
    pub trusted: Arc<Contents>,
    /// Local parts that name a way on are taken from everybody.
    pub routing: bool,
}

impl Relay {
    /// Whether a client is one of ours. One that is not known is not.
    #[inline(always)]
    pub(crate) fn trusts(&self, address: Option<&IpAddr>) -> bool {
        let Some(address) = address else { return false };
        let is_loopback = match address {
            IpAddr::V4(v4) => v4.is_loopback(),
            IpAddr::V6(v6) => v6.to_canonical().is_loopback(),
        };
        is_loopback || !self.trusted.entries.is_empty() && self.names(*address)
    }

    /// Whether an address is among the trusted.
    fn names(&self, address: IpAddr) -> bool {
        let cover = self.trusted.covering(address);
        let entry = self.trusted.intervals().chains.entries(cover).next().and_then(|entry| self.trusted.entry(entry));
        entry.is_some_and(|entry| !entry.is_hole())
    }

    /// The reply to a recipient for whom this client may not send.
    ///
    /// No domain is local. A place that is neither a domain nor an address is nobody's. A way on in the local part
    /// (`user%other.example@example.org`) is refused whatever the domain: servers that follow it would relay
    /// (RFC 2505 section 2.1).
    #[inline(always)]
    pub(crate) fn refuses(
        &self,
        recipient: &Mailbox<'_>,
        place: Option<Place<'_>>,
        situation: Exempt,
        facts: &Facts<'_>,
    ) -> Option<&Reply> {
        self.reply.as_ref().filter(|_| self.is_refused(recipient, place, situation, facts))
    }

    #[inline(never)]
    fn is_refused(&self, recipient: &Mailbox<'_>, place: Option<Place<'_>>, situation: Exempt, facts: &Facts<'_>) -> bool {
        if situation.meets(Exempt::AUTHENTICATED.and(Exempt::TRUSTED)) {
            return false;
        }
        let here = match place {
            Some(place) => {
                self.domains.of_place(place).is_some_and(|covering| covering.decide(Exempt::default(), facts, None).by.is_some())
            }
            None => recipient.domain.is_none() && recipient.literal.is_none(),
        };
        let goes_on = recipient.is_routed() && !self.routing;
        !here || goes_on
    }
}
