//! Rules that need the syntax tree: the length of functions, attributes, waiting in tests.

use syn::{
    Attribute, Block, ExprCall, ExprLoop, ExprWhile, ImplItemFn, ItemFn, ItemMod, Meta, Signature,
    TraitItemFn, spanned::Spanned as _, visit,
};

use super::Problem;
use crate::repo::File;

/// The most lines a function has, signature and braces included.
const LONGEST_FUNCTION: usize = 80;

/// Test files about timers themselves.
const TIMERS: &[&str] = &["crates/segue-server/src/fan_out/tests.rs"];

/// The problems of a file, and the lines of each function in it.
pub(super) fn check(file: &File) -> (Vec<Problem>, Vec<usize>) {
    let tree = match syn::parse_file(&file.text) {
        Ok(tree) => tree,
        Err(error) => {
            return (vec![Problem::new(file, 1, format!("not Rust: {error}"))], Vec::new());
        }
    };
    let may_sleep = !file.is_test() || TIMERS.contains(&file.path.as_str());
    let mut look = Look { file, may_sleep, problems: Vec::new(), lengths: Vec::new() };
    visit::visit_file(&mut look, &tree);
    (look.problems, look.lengths)
}

struct Look<'a> {
    file: &'a File,
    /// Not in test code, but for two places: under paused time, where it costs nothing and shows
    /// nothing about speed, and in a loop, between two looks at a condition.
    may_sleep: bool,
    problems: Vec<Problem>,
    lengths: Vec<usize>,
}

impl Look<'_> {
    fn problem(&mut self, line: usize, what: impl Into<String>) {
        self.problems.push(Problem::new(self.file, line, what));
    }

    fn check_length(&mut self, signature: &Signature, body: &Block) {
        let first = signature.span().start().line;
        let lines = body.span().end().line + 1 - first;
        self.lengths.push(lines);
        if lines > LONGEST_FUNCTION {
            let name = &signature.ident;
            self.problem(first, format!("`{name}` has {lines} lines, at most {LONGEST_FUNCTION}"));
        }
    }

    /// Looks at what is inside with `may_sleep` changed.
    fn inside(&mut self, may_sleep: bool, look: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.may_sleep, may_sleep);
        look(self);
        self.may_sleep = before;
    }
}

impl<'ast> visit::Visit<'ast> for Look<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.check_length(&item.sig, &item.block);
        let is_paused = item.attrs.iter().any(|a| tokens(a).contains("start_paused"));
        self.inside(self.may_sleep || is_paused, |look| visit::visit_item_fn(look, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.check_length(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(body) = &item.default {
            self.check_length(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let is_test =
            item.attrs.iter().any(|a| a.path().is_ident("cfg") && tokens(a).contains("test"));
        self.inside(self.may_sleep && !is_test, |look| visit::visit_item_mod(look, item));
    }

    fn visit_expr_while(&mut self, item: &'ast ExprWhile) {
        self.inside(true, |look| visit::visit_expr_while(look, item));
    }

    fn visit_expr_loop(&mut self, item: &'ast ExprLoop) {
        self.inside(true, |look| visit::visit_expr_loop(look, item));
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let line = attribute.span().start().line;
        if attribute.path().is_ident("ignore") {
            self.problem(line, "a test that is ignored tests nothing");
        }
        if attribute.path().is_ident("allow") {
            self.problem(line, "`allow`: write `#[expect(lint, reason = \"...\")]`");
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let is_sleep = matches!(&*call.func, syn::Expr::Path(path)
            if path.path.segments.last().is_some_and(|last| last.ident == "sleep"));
        if is_sleep && !self.may_sleep {
            self.problem(call.span().start().line, "a test waits for a condition, not for time");
        }
        visit::visit_expr_call(self, call);
    }
}

/// What stands in an attribute's parentheses.
fn tokens(attribute: &Attribute) -> String {
    match &attribute.meta {
        Meta::List(list) => list.tokens.to_string(),
        Meta::Path(_) | Meta::NameValue(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.into() };
        let (problems, _) = check(&file);
        problems.into_iter().map(|problem| format!("{}: {}", problem.line, problem.what)).collect()
    }

    #[test]
    fn a_function_of_eighty_lines_is_the_longest() {
        let of =
            |lines: usize| format!("impl A {{\nfn f() {{\n{}}}\n}}", "a();\n".repeat(lines - 2));
        assert_eq!(problems("a.rs", &of(80)), [""; 0]);
        assert_eq!(problems("a.rs", &of(81)), ["2: `f` has 81 lines, at most 80"]);
    }

    #[test]
    fn attributes_that_hide_are_named() {
        let text = "#[allow(dead_code)]\nfn a() {}\n#[test]\n#[ignore]\nfn b() {}";
        let found = problems("a.rs", text);
        assert!(found[0].starts_with("1: `allow`"), "{found:?}");
        assert!(found[1].starts_with("4: a test that is ignored"), "{found:?}");
    }

    #[test]
    fn a_test_sleeps_only_under_paused_time_or_between_two_looks() {
        let real = "#[cfg(test)]\nmod tests {\nfn a() { tokio::time::sleep(D); }\n}";
        assert_eq!(problems("a.rs", real).len(), 1);
        let paused = "#[cfg(test)]\nmod tests {\n#[tokio::test(start_paused = true)]\n\
            async fn a() { sleep(D).await; }\n}";
        assert_eq!(problems("a.rs", paused), [""; 0]);
        assert_eq!(problems("a/tests/b.rs", "fn a() { sleep(D); }").len(), 1);
        assert_eq!(problems("a/tests/b.rs", "fn a() { while b() { sleep(D); } }"), [""; 0]);
        assert_eq!(problems("a/src/b.rs", "fn a() { sleep(D); }"), [""; 0]);
    }

    #[test]
    fn what_does_not_parse_is_a_problem() {
        assert_eq!(problems("a.rs", "fn fn").len(), 1);
    }
}
