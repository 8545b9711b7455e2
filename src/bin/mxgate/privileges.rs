//! Privileges of root, given up for good when the sockets are open.

use nix::unistd::{Gid, Group, Uid, User as Account, geteuid, getresgid, getresuid, initgroups, setgid, setuid};
use std::ffi::CString;
use std::str::FromStr;

/// The user that the daemon becomes.
#[derive(Clone, Debug)]
pub(crate) struct User {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Reads `NAME` or `NAME:GROUP`.
impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<User, String> {
        let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
        let unknown =
            |kind: &str, name: &str| format!("there is no {kind} named \"{}\"; create it, or name another one", name.escape_debug());
        let account = Account::from_name(name).ok().flatten().ok_or_else(|| unknown("user", name))?;
        let gid = match group {
            Some(group) => Group::from_name(group).ok().flatten().ok_or_else(|| unknown("group", group))?.gid,
            None => account.gid,
        };
        if account.uid.is_root() || gid.as_raw() == 0 {
            return Err("root's privileges are what is to be given up; name a user, and a group, of the daemon's own".into());
        }
        Ok(User { name: account.name, uid: account.uid, gid })
    }
}

impl User {
    pub(crate) fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    pub(crate) fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// The process becomes this user, all its threads, without a way back.
    pub(crate) fn take_over(&self) -> Result<(), String> {
        let User { name, uid, gid } = self;
        let cannot = |cause: &str| format!("cannot become the user {name}: {cause}");
        if !geteuid().is_root() {
            return Err(cannot("only root can; start it as root, or as that user without --user"));
        }
        let account = CString::new(name.as_str()).map_err(|error| cannot(&error.to_string()))?;
        initgroups(&account, *gid)
            .and_then(|()| setgid(*gid))
            .and_then(|()| setuid(*uid))
            .map_err(|error| cannot(&format!("{error}; it needs the capabilities CAP_SETUID, CAP_SETGID and CAP_CHOWN")))?;
        let users = getresuid().map_err(|error| cannot(&error.to_string()))?;
        let groups = getresgid().map_err(|error| cannot(&error.to_string()))?;
        let became = [users.real, users.effective, users.saved] == [*uid; 3] && [groups.real, groups.effective, groups.saved] == [*gid; 3];
        if !became || setuid(Uid::from_raw(0)).is_ok() || setgid(Gid::from_raw(0)).is_ok() {
            return Err(cannot("there is a way back to root; do without --user, and let the service manager set the user"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_users_that_there_are_and_never_root() {
        let nobody: User = "nobody".parse().unwrap();
        assert_ne!((nobody.uid(), nobody.gid()), (0, 0));
        assert_eq!("nobody:daemon".parse::<User>().unwrap().uid(), nobody.uid());
        for (text, part) in [
            ("", "no user named \"\"; create it"),
            ("no-such-user", "no user named \"no-such-user\"; create it, or name another one"),
            ("nobody:no-such-group", "no group named \"no-such-group\"; create it, or name another one"),
            ("root", "name a user, and a group, of the daemon's own"),
            ("nobody:root", "name a user, and a group, of the daemon's own"),
        ] {
            let error = text.parse::<User>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
