//! The table behind [`super::on_wire`]: what each mail server makes of a reply. Data only; the first row that fits counts.
//!
//! Measured with Postfix 3.7.11, Sendmail 8.17.1, Exim 4.96 and OpenSMTPD 6.8.0p2. All of the first two is measured again by
//! `tests/wire.rs`, what was tried with the last two by `tests/exim.rs` and `tests/opensmtpd.rs`. What was read in source
//! code only, or follows from how similar replies were treated, stands under `tried` as [`Codes::None`] or is left out there.

use super::Profile;
use crate::stage::Stage::{self, Connect, Helo, Mail, Rcpt};

/// One or more cells of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub stages: &'static [Stage],
    pub codes: Codes,
    /// What the client reads at that stage; [`PASSES`] if it goes on as if nothing were wrong.
    pub line: &'static str,
    /// What MAIL is answered with after that; [`NOTHING`] if the stage has settled it.
    pub at_mail: &'static str,
    pub closes: Closes,
    /// The codes with which the row was seen on the wire.
    pub tried: Codes,
}

/// A set of reply codes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Codes {
    All,
    Class(u16),
    Only(&'static [u16]),
    None,
}

/// Whether the mail server closes the connection after the reply.
#[derive(Clone, Copy, Debug)]
pub(super) enum Closes {
    Never,
    Always,
    /// If the reply asks for it: the host can do either.
    AsAsked,
    /// If the reply asks for it and is a 5xx.
    AsAsked5xx,
}

/// The client reads the 220 or 250 that everybody reads.
pub(super) const PASSES: &str = "";
/// Nothing more happens.
pub(super) const NOTHING: &str = "";
/// The reply as it was composed.
pub(super) const OURS: &str = "{code} {status} {text}";
/// The reply as mxgate composes it for a greeting.
pub(super) const GREETING: &str = "{greeting}";

use Closes::{Always, AsAsked, AsAsked5xx, Never};
use Codes::{All, Class, Only};

const fn row(stages: &'static [Stage], codes: Codes, line: &'static str, at_mail: &'static str, closes: Closes, tried: Codes) -> Row {
    Row { stages, codes, line, at_mail, closes, tried }
}

/// What the matrix of Postfix was measured with, besides other codes that fall into the same row.
const TRIED: Codes = Only(&[421, 450, 451, 521, 550, 554, 556]);
/// What the matrix of Sendmail was measured with.
const TRIED_SENDMAIL: Codes = Only(&[421, 450, 451, 521, 550, 554, 556]);
/// What Exim and OpenSMTPD were tried with at CONNECT, where their hosts give only replies that hang up, and at RCPT.
const TRIED_AT_CONNECT: Codes = Only(&[421, 521]);
const TRIED_AT_RCPT: Codes = Only(&[421, 450, 521, 550, 554, 556]);

#[rustfmt::skip]
const POSTFIX: &[Row] = &[
    //  stages          codes              what the client reads there                          at MAIL     closes   seen
    row(&[Connect],     Only(&[421]),      "421 {host} Service unavailable - try again later",  NOTHING,    Always,  TRIED),
    row(&[Connect],     Class(4),          PASSES,                                              OURS,       Never,   TRIED),
    row(&[Connect],     Only(&[521]),      "554 {host} ESMTP not accepting connections",        OURS,       Always,  TRIED),
    row(&[Connect],     Class(5),          "554 {host} ESMTP not accepting connections",        OURS,       Never,   TRIED),
    row(&[Helo],        Only(&[421]),      OURS,                                                NOTHING,    Always,  TRIED),
    row(&[Helo],        Only(&[521]),      PASSES,                                              OURS,       Always,  TRIED),
    row(&[Helo],        All,               PASSES,                                              OURS,       Never,   TRIED),
    row(&[Mail, Rcpt],  Only(&[421, 521]), OURS,                                                NOTHING,    Always,  TRIED),
    row(&[Mail, Rcpt],  All,               OURS,                                                NOTHING,    Never,   TRIED),
];

#[rustfmt::skip]
const POSTFIX_POLICY: &[Row] = &[
    row(&[Connect],  Only(&[421, 521]), "{code} {status} <{client}>: Client host rejected: {text}",          NOTHING, Always, TRIED),
    row(&[Connect],  All,               "{code} {status} <{client}>: Client host rejected: {text}",          NOTHING, Never,  TRIED),
    row(&[Helo],     Only(&[421, 521]), "{code} {status} <{helo}>: Helo command rejected: {text}",           NOTHING, Always, TRIED),
    row(&[Helo],     All,               "{code} {status} <{helo}>: Helo command rejected: {text}",           NOTHING, Never,  TRIED),
    row(&[Mail],     Only(&[421, 521]), "{code} {status} <{sender}>: Sender address rejected: {text}",       NOTHING, Always, TRIED),
    row(&[Mail],     All,               "{code} {status} <{sender}>: Sender address rejected: {text}",       NOTHING, Never,  TRIED),
    row(&[Rcpt],     Only(&[421, 521]), "{code} {status} <{recipient}>: Recipient address rejected: {text}", NOTHING, Always, TRIED),
    row(&[Rcpt],     All,               "{code} {status} <{recipient}>: Recipient address rejected: {text}", NOTHING, Never,  TRIED),
];

/// The codes before whose text Sendmail puts the address.
const WITH_ADDRESS: Codes = Only(&[450, 550, 553]);

#[rustfmt::skip]
const SENDMAIL: &[Row] = &[
    row(&[Connect],     Only(&[421]), "421 4.7.0 {host} closing connection",      NOTHING,                            Always, TRIED_SENDMAIL),
    row(&[Connect],     Class(4),     PASSES,                                     "451 4.3.2 Please try again later", Never,  TRIED_SENDMAIL),
    row(&[Connect],     Class(5),     "554 {host} ESMTP not accepting messages",  "550 5.0.0 Command rejected",       Never,  TRIED_SENDMAIL),
    row(&[Helo],        Only(&[421]), OURS,                                       NOTHING,                            Always, TRIED_SENDMAIL),
    // RCPT gets the same reply, should the client send it without waiting for that to MAIL.
    row(&[Helo],        All,          PASSES,                                     OURS,                               Never,  TRIED_SENDMAIL),
    row(&[Mail, Rcpt],  Only(&[421]), OURS,                                       NOTHING,                            Always, TRIED_SENDMAIL),
    row(&[Mail],        WITH_ADDRESS, "{code} {status} <{sender}>... {text}",     NOTHING,                            Never,  WITH_ADDRESS),
    row(&[Rcpt],        WITH_ADDRESS, "{code} {status} <{recipient}>... {text}",  NOTHING,                            Never,  WITH_ADDRESS),
    row(&[Mail, Rcpt],  All,          OURS,                                       NOTHING,                            Never,
        Only(&[451, 452, 521, 551, 552, 554, 556])),
];

/// The ACL takes the reply with `drop` if it is to hang up, else with `deny`, and a 4xx with `defer`, for which there is no
/// form that hangs up: `drop` makes a 550 of a 421. A client refused by the ACL of the connection is always disconnected.
#[rustfmt::skip]
const EXIM: &[Row] = &[
    row(&[Connect],           All,  GREETING,  NOTHING,  Always,      TRIED_AT_CONNECT),
    row(&[Helo, Mail],        All,  OURS,      NOTHING,  AsAsked5xx,  Codes::None),
    row(&[Rcpt],              All,  OURS,      NOTHING,  AsAsked5xx,  TRIED_AT_RCPT),
];

/// The filter answers `disconnect` if the reply is to hang up, else `reject`; a 421 disconnects in any case. After a
/// `reject` at CONNECT every command but QUIT is answered 503.
#[rustfmt::skip]
const OPENSMTPD: &[Row] = &[
    row(&[Connect],     Class(4),      GREETING,  NOTHING,  Always,   TRIED_AT_CONNECT),
    row(&[Connect],     All,           GREETING,  NOTHING,  AsAsked,  TRIED_AT_CONNECT),
    row(&[Helo, Mail],  Only(&[421]),  OURS,      NOTHING,  Always,   Codes::None),
    row(&[Helo, Mail],  All,           OURS,      NOTHING,  AsAsked,  Codes::None),
    row(&[Rcpt],        Only(&[421]),  OURS,      NOTHING,  Always,   TRIED_AT_RCPT),
    row(&[Rcpt],        All,           OURS,      NOTHING,  AsAsked,  TRIED_AT_RCPT),
];

/// There is no mail server in between: the host sends what it gets.
#[rustfmt::skip]
const ABI: &[Row] = &[
    row(&[Connect],           All,  GREETING,  NOTHING,  AsAsked,  All),
    row(&[Helo, Mail, Rcpt],  All,  OURS,      NOTHING,  AsAsked,  All),
];

/// The rows of a profile.
pub(super) fn rows(profile: Profile) -> &'static [Row] {
    match profile {
        Profile::Postfix => POSTFIX,
        Profile::PostfixPolicy => POSTFIX_POLICY,
        Profile::Sendmail => SENDMAIL,
        Profile::Exim => EXIM,
        Profile::OpenSmtpd => OPENSMTPD,
        Profile::Abi => ABI,
    }
}

impl Codes {
    pub(super) fn contains(self, code: u16) -> bool {
        match self {
            Self::All => true,
            Self::Class(class) => code / 100 == class,
            Self::Only(codes) => codes.contains(&code),
            Self::None => false,
        }
    }
}

impl Closes {
    /// Whether the connection is closed after a reply with this code, which asks for it or not.
    pub(super) fn after(self, code: u16, asked: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::AsAsked => asked,
            Self::AsAsked5xx => asked && code >= 500,
        }
    }
}
