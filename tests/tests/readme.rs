//! The README says what the code does.

use std::fs;
use std::path::Path;

use agent_types::params;

const BEGIN: &str =
    "<!-- parameters: this table is checked against agent/types/src/params.rs -->\n";
const END: &str = "<!-- end of parameters -->";

#[test]
fn the_readme_lists_every_kernel_parameter_as_the_code_documents_it() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let (_, table) = text.split_once(BEGIN).expect("a beginning");
    let (table, _) = table.split_once(END).expect("an end");
    assert_eq!(table, params::markdown_table());
}
