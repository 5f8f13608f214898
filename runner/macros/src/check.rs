//! `#[handler]`: one check for each argument, for the result and for the future, each at its own place in the source.
//!
//! Without it the compiler can only say that a function as a whole is no handler.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, ItemFn, ReturnType, Signature};

/// The most arguments of a handler.
const MOST: usize = 8;

/// The function as it is, and its checks.
pub(crate) fn handler(item: TokenStream, package: &TokenStream) -> TokenStream {
    let checks = syn::parse2::<ItemFn>(item.clone()).and_then(|function| checks(&function, package));
    let checks = checks.unwrap_or_else(Error::into_compile_error);
    quote! { #item #checks }
}

fn checks(function: &ItemFn, package: &TokenStream) -> syn::Result<TokenStream> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span(), "a handler is an `async fn`"));
    }
    if !signature.generics.params.is_empty() {
        let what = "a handler without generics is needed for #[handler]: remove the attribute";
        return Err(Error::new(signature.generics.span(), what));
    }
    if signature.inputs.len() > MOST {
        let what = "a handler has at most eight arguments: put several states into one type";
        return Err(Error::new(signature.inputs.span(), what));
    }
    let mut arguments = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Typed(argument) => arguments.push(&argument.ty),
            FnArg::Receiver(receiver) => {
                let what = "a handler is a plain function: share a value as State<T> instead of `self`";
                return Err(Error::new(receiver.span(), what));
            }
        }
    }
    let arguments = arguments.iter().map(|argument| {
        quote_spanned! {argument.span()=> {
            fn argument<T: #package::FromTask + ::core::marker::Send>() {}
            argument::<#argument>();
        }}
    });
    let result = match &signature.output {
        ReturnType::Default => quote!(),
        ReturnType::Type(_, result) => quote_spanned! {result.span()=> {
            fn result<T: #package::IntoOutcome>() {}
            result::<#result>();
        }},
    };
    let future = future(signature);
    Ok(quote! {
        const _: fn() = || { #(#arguments)* #result #future };
    })
}

/// The future moves between threads: the compiler names the value that cannot, and the `.await` across which it is held.
fn future(signature: &Signature) -> TokenStream {
    let name = &signature.ident;
    let types: Vec<_> = (0..signature.inputs.len())
        .map(|index| format_ident!("A{index}"))
        .collect();
    quote_spanned! {name.span()=> {
        fn the_future_of_a_handler_must_be_send<#(#types,)* F: ::core::marker::Send>(_: impl ::core::ops::Fn(#(#types),*) -> F) {}
        the_future_of_a_handler_must_be_send(#name);
    }}
}
