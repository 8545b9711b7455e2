//! `mxgate top`: what a daemon has had most of since it started: clients that were refused, rules that refused them, lists
//! that decided.

use crate::commands::Done;
use crate::flood;
use crate::most::Counted;
use crate::refusal::seconds;
use crate::rules::Rules;
use mxgate::status::Status;
use serde_json::{Value, json};
use std::fmt::{Display, Write as _};

/// So many of each are shown to people, ...
const SHOWN: usize = 10;
/// ... and so many to programs.
const MOST: usize = 100;

/// What a daemon has had most of.
pub(crate) fn top(rules: &Rules) -> Done {
    let refusals = &rules.refusals;
    let (clients, by) = refusals.most(MOST);
    let clients: Vec<Counted<String>> = clients.into_iter().map(|client| client.map(flood::name)).collect();
    let by: Vec<Counted<String>> = by.into_iter().map(|rule| rule.map(|rule| rule.to_string())).collect();
    let mut lists: Vec<_> = Status::of(&rules.gate).lists.into_iter().filter(|list| list.hits > 0).collect();
    lists.sort_by_key(|list| std::cmp::Reverse(list.hits));
    lists.truncate(MOST);

    let mut text = format!("since {}\n", seconds(refusals.since));
    let lists_shown = lists.iter().map(|list| (list.hits, 0, format!("{}, {}", list.name, list.kind)));
    table(&mut text, "REFUSED", "CLIENT", clients.iter().map(|client| (client.number, client.doubtful, client.what.clone())));
    table(&mut text, "REFUSED", "BY", by.iter().map(|rule| (rule.number, rule.doubtful, rule.what.clone())));
    table(&mut text, "HITS", "LIST", lists_shown);
    let counted = |key: &str, counted: &[Counted<String>]| -> Value {
        let rows = counted.iter().map(|row| json!({ key: row.what, "refusals": row.number, "doubtful": row.doubtful }));
        rows.collect()
    };
    let lists: Value = lists.iter().map(|list| json!({ "list": list.name, "kind": list.kind, "hits": list.hits })).collect();
    let result = json!({
        "since": seconds(refusals.since),
        "clients": counted("client", &clients),
        "rules": counted("rule", &by),
        "lists": lists,
    });
    Done { result, text }
}

/// Writes the first rows. What may be too large is marked.
fn table(text: &mut String, head: &str, what: &str, rows: impl Iterator<Item = (u64, u64, impl Display)>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{head:>10}  {what}");
    for (number, doubtful, what) in rows.take(SHOWN) {
        let about = if doubtful > 0 { format!("<={number}") } else { number.to_string() };
        let _ = writeln!(text, "{about:>10}  {what}");
    }
}
