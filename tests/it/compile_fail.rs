//! What must not compile does not, and the compiler says why in a sentence.
//!
//! All cases are checked in one build of the package. After a new compiler: `TRYBUILD=overwrite cargo test compile_fail`.

#[test]
fn a_bad_const_route_table_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
