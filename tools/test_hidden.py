#!/usr/bin/env python3
"""Tests of hidden.py."""
import sys
import unittest

sys.dont_write_bytecode = True
import hidden  # noqa: E402


class Reading(unittest.TestCase):
    def test_every_kind_of_item_is_found(self):
        items = [
            "pub mod it;",
            "pub(crate) mod it {",
            "fn it(&self) {}",
            "pub async fn it<T>() {}",
            "pub const unsafe fn it() {}",
            "pub trait it: Send {",
            "pub struct it(u8);",
            "pub const it: u8 = 0;",
            "pub use it;",
            "pub it: bool,",
            "it,",
        ]
        for item in items:
            with self.subTest(item):
                self.assertEqual(list(hidden.hidden(f"#[doc(hidden)]\n{item}")), ["it"])

    def test_other_attributes_and_docs_may_follow(self):
        text = "    #[doc(hidden)]\n    /// Docs.\n    #[inline]\n    pub fn it() {}\n    pub fn other() {}"
        self.assertEqual(list(hidden.hidden(text)), ["it"])

    def test_other_spellings_count(self):
        for attribute in ["#[doc(inline, hidden)]", "#[doc( hidden )]", "#[cfg_attr(x, doc(hidden))]"]:
            with self.subTest(attribute):
                self.assertEqual(list(hidden.hidden(f"{attribute}\nfn it() {{}}")), ["it"])

    def test_a_comment_hides_nothing(self):
        self.assertEqual(list(hidden.hidden("// #[doc(hidden)]\nfn it() {}")), [])


class Comparing(unittest.TestCase):
    def test_both_ways(self):
        one, two = ("a.rs", "one"), ("a.rs", "two")
        self.assertEqual(list(hidden.differences({one}, {one})), [])
        self.assertIn("hides one", *hidden.differences({one}, set()))
        self.assertIn("does not hide two", *hidden.differences({one}, {one, two}))


if __name__ == "__main__":
    unittest.main()
