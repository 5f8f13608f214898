//! What `#[task(…)]` says, checked while the program is compiled.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{DeriveInput, Error, LitInt, LitStr, Path, Result};

use crate::duration;

const KEYS: &str = "name, queue, retry, timeout, retention, unique and crate";

/// The attributes of one type.
pub(crate) struct Attributes {
    pub name: LitStr,
    /// Calls of the builder of `Task`: `.queue("low")`.
    pub options: Vec<TokenStream>,
    /// Where `TaskType` and `Task` are, if not in the package that the macro was taken from.
    pub package: Option<Path>,
}

impl Attributes {
    pub(crate) fn of(input: &DeriveInput) -> Result<Self> {
        let mut found = Found::default();
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("task")) {
            attribute.parse_nested_meta(|meta| found.take(&meta))?;
        }
        let missing = || {
            let what = "a task type needs a name: #[task(name = \"greet\")]. It is stored with every task, so that \
                it must not follow the name of the Rust type";
            Error::new(input.ident.span(), what)
        };
        Ok(Self {
            name: found.name.ok_or_else(missing)?,
            options: found.options,
            package: found.package,
        })
    }
}

#[derive(Default)]
struct Found {
    name: Option<LitStr>,
    options: Vec<TokenStream>,
    package: Option<Path>,
    seen: Vec<String>,
}

impl Found {
    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        if self.seen.contains(&key) {
            return Err(meta.error(format!("`{key}` is given twice")));
        }
        match key.as_str() {
            "name" => self.name = Some(name(meta)?),
            "queue" => {
                let queue = text(meta, "queue")?;
                self.options.push(quote!(.queue(#queue)));
            }
            "retry" => {
                let times: LitInt = meta.value()?.parse()?;
                times.base10_parse::<u32>()?;
                self.options.push(quote!(.retry(#times)));
            }
            "timeout" => self.length(meta, &quote!(timeout), 1_000)?,
            "retention" => self.length(meta, &quote!(retention), 1_000)?,
            "unique" => self.length(meta, &quote!(unique), 1_000)?,
            "crate" => self.package = Some(meta.value()?.parse::<LitStr>()?.parse()?),
            _ => return Err(meta.error(format!("unknown key; there are {KEYS}"))),
        }
        self.seen.push(key);
        Ok(())
    }

    /// A length of time, in whole milliseconds of at least `least`.
    fn length(&mut self, meta: &ParseNestedMeta<'_>, method: &TokenStream, least: u64) -> Result<()> {
        let written: LitStr = meta.value()?.parse()?;
        let millis = duration::millis(&written.value()).map_err(|why| Error::new(written.span(), why))?;
        if millis < least {
            return Err(Error::new(written.span(), "at least 1s"));
        }
        self.options
            .push(quote!(.#method(::core::time::Duration::from_millis(#millis))));
        Ok(())
    }
}

/// A text that is not blank.
fn text(meta: &ParseNestedMeta<'_>, key: &str) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    match text.value().trim().is_empty() {
        true => Err(Error::new(text.span(), format!("`{key}` must not be blank"))),
        false => Ok(text),
    }
}

/// A name that belongs to one type: the registry reads one that ends in `:` or `.` as the beginning of many.
fn name(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let name = text(meta, "name")?;
    match name.value().ends_with([':', '.']) {
        true => Err(Error::new(
            name.span(),
            "a task type does not end in `:` or `.`, which stands for all types that begin so",
        )),
        false => Ok(name),
    }
}
