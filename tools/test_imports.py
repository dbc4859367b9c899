#!/usr/bin/env python3
"""Tests of imports.py: sources that are made up."""
import sys
import unittest

sys.dont_write_bytecode = True
import imports  # noqa: E402


def source(**files):
    """What is read of a crate `c`; `a__b` is the module `c::a::b`, `lib` the root."""
    read = imports.Source()
    for name, text in files.items():
        module = "::".join(["c", *([] if name == "lib" else name.split("__"))])
        read.files[module] = f"{name}.rs"
    for name, text in files.items():
        module = "::".join(["c", *([] if name == "lib" else name.split("__"))])
        read.read(module, f"{name}.rs", text)
    return read


def edges(**files):
    return {
        (importer, imported)
        for importer, found in imports.graph(source(**files)).items()
        for imported in found
    }


class Reading(unittest.TestCase):
    def test_every_form_of_a_path_counts(self):
        forms = [
            "use crate::b::X;",
            "use super::b::X;",
            "use crate::{b::{self, X as Y}};",
            "fn f() { crate::b::f() }",
            "type T = Vec<super::b::X>;",
            "use super::b::*;",
        ]
        for form in forms:
            with self.subTest(form):
                found = edges(lib="mod a; mod b;", a=form, b="pub struct X; pub fn f() {}")
                self.assertEqual(found, {("a.rs", "b.rs")})

    def test_comments_strings_and_tests_do_not_count(self):
        text = """
            // use crate::b::X;
            /* use crate::b::X; */
            const S: &str = "use crate::b::X;"; const C: char = '"';
            #[cfg(test)] use crate::b::X;
            #[cfg(test)] mod tests { use crate::b::X; }
            #[cfg(any(test, fuzzing))] mod fuzz { use crate::b::X; }
            #[cfg(all(test, unix))] fn f<'a>(x: &'a crate::b::X) {}
            pub(in crate::b) struct Y;
            impl Trait for Z { fn f() -> impl Sized + use<'static> {} }
        """
        self.assertEqual(edges(lib="mod a; mod b;", a=text, b="pub struct X;"), set())

    def test_a_name_counts_for_the_file_that_defines_it(self):
        files = {
            "lib": "mod a; mod b;",
            "b": "mod c; pub use c::X; use c::private; pub use self::c as d;",
            "b__c": "pub struct X; pub(super) fn private() {}",
        }
        for form in ["use crate::b::X;", "use crate::b::d::X;", "use crate::b::private;"]:
            with self.subTest(form):
                self.assertIn(("a.rs", "b__c.rs"), edges(a=form, **files))
        self.assertNotIn(("a.rs", "b.rs"), edges(a="use crate::b::X;", **files))

    def test_a_name_that_is_passed_on_counts_where_it_is_used(self):
        self.assertEqual(edges(lib="mod a; pub use a::X;", a="pub struct X;"), set())
        used = edges(lib="mod a; pub use a::X; fn f(x: X) {}", a="pub struct X;")
        self.assertEqual(used, {("lib.rs", "a.rs")})

    def test_what_cfg_chooses_among_counts_all(self):
        files = {
            "lib": "mod a; mod b; mod c; #[cfg(x)] use a as chosen; #[cfg(not(x))] use b as chosen; pub use chosen::*;",
            "a": "pub struct X;",
            "b": "pub struct X;",
            "c": "use crate::X;",
        }
        found = edges(**files)
        self.assertIn(("c.rs", "a.rs"), found)
        self.assertIn(("c.rs", "b.rs"), found)

    def test_children_and_their_paths(self):
        text = '#[cfg(a)] #[path = "x/one.rs"] mod child; pub mod other; mod inline { mod below; }'
        children = imports.Source().read("c", "lib.rs", text)
        self.assertEqual(children, [("child", "x/one.rs"), ("other", None), ("inline::below", None)])


class Rules(unittest.TestCase):
    def test_circles_of_two_files_are_let_be(self):
        two = source(lib="mod a; mod b;", a="use crate::b::X; pub struct Y;", b="use crate::a::Y; pub struct X;")
        self.assertEqual(imports.check(two), [])

    def test_a_circle_of_three_is_told_with_its_arrows(self):
        files = dict(
            lib="mod a; mod b; mod c;",
            a="use crate::b::X; pub struct Z;",
            b="use crate::c::Y; pub struct X;",
            c="use crate::a::Z; pub struct Y;",
        )
        told = imports.check(source(**files))
        self.assertEqual(told[0], "a circle of 3 files:")
        self.assertIn("    a.rs imports b.rs: crate::b::X", told)
        self.assertEqual(imports.check(source(**files), [("c.rs", "a.rs", "why")]), [])

    def test_an_exception_that_is_not_needed_is_told(self):
        told = imports.check(source(lib="mod a;", a=""), [("a.rs", "lib.rs", "why")])
        self.assertEqual(told, ["needless exception: a.rs does not import lib.rs"])

    def test_protocols_import_nothing_from_above(self):
        read = imports.Source()
        read.files = {
            "pingora_core": "lib.rs",
            "pingora_core::protocols": "protocols.rs",
            "pingora_core::listeners": "listeners.rs",
        }
        read.read("pingora_core::protocols", "protocols.rs", "pub struct Tls; use crate::listeners::Tls;")
        read.read("pingora_core::listeners", "listeners.rs", "pub use crate::protocols::Tls;")
        told = imports.check(read)
        # By the path that is written, wherever it leads.
        self.assertEqual(told, ["upwards: protocols.rs imports pingora_core::listeners::Tls"])


if __name__ == "__main__":
    unittest.main()
