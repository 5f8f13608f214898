//! Rules that a reader may rely on without reading everything.
//!
//! Works on the text of the files. Not here: what the compiler and clippy check.

mod architecture;
mod arrows;
mod circles;
mod languages;
mod pages;
mod scripts;
pub mod text;
mod types;
mod words;

use crate::kit;
use architecture::documents_of_the_code_name_existing_things;
use arrows::{
    architecture_md_shows_the_plan, rooms_use_only_what_the_plan_allows, the_check_of_arrows_can_fail,
    the_plan_has_no_stairs_up, the_redis_broker_has_floors,
};
use circles::{no_files_use_each_other_in_a_circle, the_check_of_circles_can_fail};
use languages::{both_languages_have_the_same_examples, the_check_of_languages_can_fail};
use pages::{
    code_is_that_of_the_examples, each_block_is_run_or_explains_why_not, each_page_is_in_the_tables_of_contents,
    links_lead_somewhere, the_readme_is_short,
};
use scripts::scripts_have_the_names_of_methods;
use types::{one_name_means_one_type, the_check_of_types_can_fail, types_are_named_by_terms_of_the_field};
use words::{
    dependencies_have_reasons, files_are_short, files_open_with_a_header, no_machine_is_named,
    only_the_printing_place_prints, templates_and_pages_match, the_readme_is_run, words_are_the_ones_of_the_glossary,
};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): the_plan_has_no_stairs_up, architecture_md_shows_the_plan, rooms_use_only_what_the_plan_allows,
            the_redis_broker_has_floors, the_check_of_arrows_can_fail, files_open_with_a_header, files_are_short, templates_and_pages_match,
            the_readme_is_run, no_machine_is_named, words_are_the_ones_of_the_glossary, dependencies_have_reasons,
            only_the_printing_place_prints, both_languages_have_the_same_examples, the_check_of_languages_can_fail,
            each_block_is_run_or_explains_why_not, code_is_that_of_the_examples, the_readme_is_short,
            links_lead_somewhere, each_page_is_in_the_tables_of_contents, documents_of_the_code_name_existing_things,
            one_name_means_one_type, types_are_named_by_terms_of_the_field, the_check_of_types_can_fail,
            scripts_have_the_names_of_methods, no_files_use_each_other_in_a_circle, the_check_of_circles_can_fail
    ]
}
