//! The manual page man/mxgate.1, made from the command line as it is read, and from what follows here. Its test writes the
//! page anew with `make manual`.

use crate::Cli;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::path::Path;

/// What the command line does not say: sections, and their entries.
const SECTIONS: [(&str, &[(&str, &str)]); 5] = [
    (
        "SIGNALS",
        &[
            ("SIGHUP", "The daemon loads its policy again, as mxgate reload does. If there are mistakes the rules in force stay."),
            ("SIGTERM, SIGINT", "The daemon stops. Open sessions get the time that --drain gives them; a second signal ends them at once."),
        ],
    ),
    (
        "RESTARTS",
        &[
            (
                "Sockets that are handed over",
                "systemd opens the socket of mxgate-milter.socket and hands it to the daemon, as systemd-socket-activate(1) and other \
                 service managers do (sd_listen_fds(3)). Such sockets stay open while the daemon restarts: no connection is refused, and who \
                 connects meanwhile waits. A socket named control (FileDescriptorName=) is the control socket, all others are for \
                 mail servers.",
            ),
            (
                "Without a service manager",
                "Between two daemons a mail server that connects is refused, and does what it was told to do then: \
                 milter_default_action = accept.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES", "Sockets that are handed over."),
            (
                "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
                "Where the daemon tells that it is ready, loads again or stops, how it is, and that it is alive (sd_notify(3)).",
            ),
            ("RUST_LOG", "What goes to the log: error, warn, info (the default) or debug."),
        ],
    ),
    (
        "FILES",
        &[
            ("/etc/mxgate/mxgate.toml", "The policy that mxgate.service has in force."),
            ("/run/mxgate/control.sock", "The control socket of that daemon."),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "Done; for check and explain: accepted."),
            ("1", "Rejected, differences or warnings: each command says which."),
            ("2", "What was asked for could not be done; standard error says why, and what to do."),
        ],
    ),
];

fn page() -> String {
    let mut command = Cli::command().disable_help_subcommand(true);
    // Once is enough.
    command = command.mut_subcommands(|command| command.disable_help_flag(true));
    command.build();
    let man = Man::new(command.clone()).manual("mxgate manual");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut page = String::from_utf8(page).unwrap();
    for subcommand in command.get_subcommands() {
        let man = Man::new(subcommand.clone());
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part).unwrap();
        man.render_description_section(&mut part).unwrap();
        man.render_options_section(&mut part).unwrap();
        let part = String::from_utf8(part).unwrap();
        // One section for each command, not three.
        let part = part.replace(".SH SYNOPSIS\n", "").replace(".SH DESCRIPTION\n", ".PP\n").replace(".SH OPTIONS\n", "");
        page.push_str(&format!(".SH \"{}\"\n{part}", subcommand.get_bin_name().unwrap_or_default().to_uppercase()));
    }
    let mut end = Roff::new();
    for (section, entries) in SECTIONS {
        end.control("SH", [section]);
        for (term, text) in entries {
            end.control("TP", []).text([bold(*term)]).text([roman(*text)]);
        }
    }
    end.control("SH", ["SEE ALSO"]).text([bold("mxgate.toml"), roman("(5), "), bold("systemd.socket"), roman("(5)")]);
    page + &end.to_roff()
}

#[test]
fn the_committed_page_is_the_one_that_is_made() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/mxgate.1");
    let made = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap_or_default() == made, "man/mxgate.1 is not up to date: run make manual");
    for command in Cli::command().get_subcommands() {
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            let shown = format!("\\-\\-{}\\fR", option.replace('-', "\\-"));
            assert!(made.contains(&shown), "{option}");
        }
    }
}
