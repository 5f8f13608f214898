//! `#[derive(TaskType)]`: name and options of a task beside the type of its payload.
//!
//! `#[handler]` checks the arguments of a handler. Each macro exists once for each package that re-exports it, because the code it writes names that package. Not here: the
//! trait itself, which is `runner_core::task::TaskType`.

mod attributes;
mod check;
mod duration;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{DeriveInput, parse_macro_input};

use attributes::Attributes;

/// For users of `runner-client`.
#[proc_macro_derive(ClientTaskType, attributes(task))]
pub fn client_task_type(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input), &package("runner_client"))
}

/// For users of `runner-sdk`.
#[proc_macro_derive(SdkTaskType, attributes(task))]
pub fn sdk_task_type(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input), &package("runner_sdk"))
}

/// For users of `runner`.
#[proc_macro_derive(RunnerTaskType, attributes(task))]
pub fn runner_task_type(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input), &of_runner())
}

/// For users of `runner-sdk`.
#[proc_macro_attribute]
pub fn sdk_handler(_: TokenStream, item: TokenStream) -> TokenStream {
    check::handler(item.into(), &package("runner_sdk")).into()
}

/// For users of `runner`.
#[proc_macro_attribute]
pub fn runner_handler(_: TokenStream, item: TokenStream) -> TokenStream {
    check::handler(item.into(), &of_runner()).into()
}

/// The path of a package.
fn package(name: &str) -> Tokens {
    let name = format_ident!("{name}");
    quote!(::#name)
}

/// Where `runner` re-exports the package `runner-sdk`.
fn of_runner() -> Tokens {
    let runner = package("runner");
    quote!(#runner ::sdk)
}

fn derive(input: &DeriveInput, package: &Tokens) -> TokenStream {
    let written = Attributes::of(input).map(|attributes| implementation(input, &attributes, package));
    written.unwrap_or_else(syn::Error::into_compile_error).into()
}

fn implementation(input: &DeriveInput, attributes: &Attributes, package: &Tokens) -> Tokens {
    let package = attributes
        .package
        .as_ref()
        .map_or_else(|| package.clone(), |path| quote!(#path));
    let (name, options) = (&attributes.name, &attributes.options);
    let target = &input.ident;
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #generics #package::TaskType for #target #arguments #conditions {
            const NAME: &'static str = #name;

            fn options(task: #package::Task) -> #package::Task {
                task #(#options)*
            }
        }
    }
}
