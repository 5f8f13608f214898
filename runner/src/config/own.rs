//! Sections of the settings that belong to the program which embeds this one, each read into a type of that program.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::reader::SettingPlace;
use super::section::Section;
use super::typed::{TypedError, TypedNode, TypedSource};
use crate::text::yaml::{Mark, Node, Value};

type Read = Arc<dyn Fn(TypedNode<'_>) -> Result<(), TypedError> + Send + Sync>;

/// A section of the program's own.
#[derive(Clone)]
pub struct OwnSection {
    name: &'static str,
    read: Read,
    check: Read,
}

impl OwnSection {
    /// The section of this name, which is passed to `keep` each time settings are read.
    pub fn new<T: DeserializeOwned>(name: &'static str, keep: impl Fn(T) + Send + Sync + 'static) -> Self {
        let read = move |node: TypedNode<'_>| {
            keep(T::deserialize(node)?);
            Ok(())
        };
        let check = |node: TypedNode<'_>| T::deserialize(node).map(drop);
        Self {
            name,
            read: Arc::new(read),
            check: Arc::new(check),
        }
    }

    /// The same section, whose errors are reported, and whose value goes nowhere.
    #[must_use]
    pub fn only_checked(&self) -> Self {
        Self {
            read: Arc::clone(&self.check),
            ..self.clone()
        }
    }

    /// Reads it from the file, which may lack it: then all its keys are missing. A command that ends soon does not use it, and may
    /// be unable to read its secrets.
    pub fn read(&self, root: &Section<'_>) {
        let reader = root.reader();
        if root.has_read(self.name) {
            let message = format!(
                "the section {} has its own meaning; give the program's section another name",
                self.name
            );
            return reader.error("CFG_OWN", &SettingPlace::File(Mark::START), message);
        }
        let node = root.node(self.name);
        if reader.for_command {
            return;
        }
        let empty = Node {
            mark: root.place_of(self.name).map_or(Mark::START, |place| match place {
                SettingPlace::File(mark) => mark,
                SettingPlace::Variable(_) => Mark::START,
            }),
            value: Value::Map(Vec::new()),
        };
        let node = node.filter(|node| node.value != Value::Null).unwrap_or(&empty);
        let source = TypedSource {
            text: reader.text,
            environment: reader.environment,
            unknown: RefCell::default(),
        };
        let read = (self.read)(TypedNode::new(&source, self.name, node));
        for unknown in source.unknown.into_inner() {
            let place = SettingPlace::File(unknown.at);
            match unknown.hint {
                Some(hint) => reader.error_hint("CFG_UNKNOWN", &place, unknown.message, hint),
                None => reader.error("CFG_UNKNOWN", &place, unknown.message),
            }
        }
        if let Err(error) = read {
            let place = SettingPlace::File(error.at.as_ref().map_or(node.mark, |(_, mark)| *mark));
            match error.reference {
                true => {
                    let hint = "write ${env:NAME} or ${file:PATH}, or $${ for a plain ${";
                    reader.error_hint("CFG_REFERENCE", &place, error.to_string(), hint);
                }
                false => reader.error("CFG_VALUE", &place, error.to_string()),
            }
        }
    }
}

impl fmt::Debug for OwnSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnSection").field(&self.name).finish()
    }
}
