//! Where rules come from: a policy file, an image of one, or a text.

use crate::diagnostic::{Diagnostic, Fault, Lines};
use crate::disk::Disk;
use crate::image::{self, Restored};
use crate::policy::MAX_POLICY;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::{self, Utf8Error};
use std::sync::Arc;

/// Where the rules in force came from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Source {
    /// None, or one whose files only the caller knows.
    #[default]
    Unknown,
    /// A policy, or an image that is checked as a whole.
    File(PathBuf),
    /// An image whose arrays are taken as they are.
    Image(PathBuf),
    Text {
        text: Arc<str>,
        name: Arc<str>,
    },
}

/// A policy as it was read.
pub(crate) struct PolicyText {
    pub text: Arc<str>,
    /// How messages name it.
    pub name: Arc<str>,
    /// What an image has besides the text.
    pub image: Option<Restored>,
}

impl Source {
    /// The directory from which the files that it names count.
    pub(crate) fn base(&self) -> &Path {
        match self {
            Source::File(path) | Source::Image(path) => path.parent().unwrap_or(Path::new("")),
            Source::Text { .. } | Source::Unknown => Path::new(""),
        }
    }

    /// Reads the policy itself.
    pub(crate) fn read(&self, files: &Disk<'_>) -> Result<PolicyText, Diagnostic> {
        let path = match self {
            Source::Text { text, name } => return Ok(PolicyText { text: Arc::clone(text), name: Arc::clone(name), image: None }),
            Source::File(path) | Source::Image(path) => path,
            Source::Unknown => {
                let fault = Fault::io("the rules in force came from no file", "load a policy from a file or a text");
                return Err(fault.at(&"policy".into(), 1, 1));
            }
        };
        let name: Arc<str> = path.to_string_lossy().into();
        let what = if matches!(self, Source::Image(_)) { "image" } else { "policy" };
        let unreadable = |error| {
            let fault = Fault::io(format!("cannot read the {what}: {error}"), "check the path and who may read the file");
            fault.at(&name, 1, 1)
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_POLICY).unwrap_or(u64::MAX).saturating_add(1);
        let file = files.open_file(path).map_err(unreadable)?;
        (&file).take(image::MARK.len() as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        let by_mark = bytes == image::MARK;
        if by_mark || matches!(self, Source::Image(_)) {
            let reader = image::open(&file, matches!(self, Source::File(_)));
            let restored = reader.and_then(|reader| image::restore(reader).ok_or_else(image::incomplete));
            let (text, policy, restored) = restored.map_err(|fault| fault.at(&name, 1, 1))?;
            return Ok(PolicyText { text: text.into(), name: policy.into(), image: Some(restored) });
        }
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        let text = str::from_utf8(&bytes).map_err(|error| not_text(&bytes, error, &name))?;
        Ok(PolicyText { text: text.into(), name, image: None })
    }
}

/// What is wrong with a policy that is not UTF-8.
pub(crate) fn not_text(bytes: &[u8], error: Utf8Error, name: &Arc<str>) -> Diagnostic {
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let (line, column) = Lines::of(&String::from_utf8_lossy(before)).position(before.len());
    Fault::new("the policy is not UTF-8 text", "write it in UTF-8 (TOML knows no other encoding)").at(name, line, column)
}
