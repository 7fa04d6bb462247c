//! Reads Rust source as far as the layer test needs it: tokens without comments and literals, the module each token
//! stands in, and the paths that are named. Not a parser: what it cannot read it passes over, one token at a time.

/// What the rules need to tell apart; the contents of literals are dropped, so that text never looks like code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Ident(String),
    PathSep,
    Punct(char),
    Literal,
    Lifetime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// 1-based, where the token starts.
    pub(super) line: usize,
    pub(super) kind: Kind,
}

impl Token {
    pub(super) fn ident(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            Kind::PathSep | Kind::Punct(_) | Kind::Literal | Kind::Lifetime => None,
        }
    }

    pub(super) fn is_punct(&self, wanted: char) -> bool {
        self.kind == Kind::Punct(wanted)
    }
}

/// Splits `text` into tokens; comments (nested ones too) vanish, literals become [`Kind::Literal`].
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(first) = lexer.peek(0) {
        let line = lexer.line;
        if let Some(kind) = lexer.take_token(first) {
            found.push(Token { line, kind });
        }
    }
    found
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    fn take_token(&mut self, first: char) -> Option<Kind> {
        match (first, self.peek(1)) {
            ('/', Some('/')) => self.skip_line(),
            ('/', Some('*')) => self.skip_block_comment(),
            (':', Some(':')) => {
                self.skip(2);
                return Some(Kind::PathSep);
            }
            ('"', _) => return Some(self.take_string()),
            ('\'', _) => return Some(self.take_quote()),
            (c, _) if c.is_whitespace() => self.skip(1),
            (c, _) if c.is_ascii_digit() => {
                self.take_word();
                return Some(Kind::Literal);
            }
            (c, _) if c.is_alphabetic() || c == '_' => return Some(self.take_name_or_prefixed_literal()),
            (c, _) => {
                self.skip(1);
                return Some(Kind::Punct(c));
            }
        }
        None
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.skip(1);
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.skip(2);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.skip(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.skip(1),
            }
        }
    }

    /// From the opening `"` to the closing one; `\"` and `\\` do not close it.
    fn take_string(&mut self) -> Kind {
        self.skip(1);
        while let Some(c) = self.peek(0) {
            self.skip(if c == '\\' { 2 } else { 1 });
            if c == '"' {
                break;
            }
        }
        Kind::Literal
    }

    /// `'a'`, `'\''` and `'\u{1F600}'` are characters, `'a` and `'static` are lifetimes.
    fn take_quote(&mut self) -> Kind {
        let is_char = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        if !is_char {
            self.skip(1);
            self.take_word();
            return Kind::Lifetime;
        }
        self.skip(if self.peek(1) == Some('\\') { 3 } else { 2 });
        while self.peek(0).is_some_and(|c| c != '\'') {
            self.skip(1);
        }
        self.skip(1);
        Kind::Literal
    }

    fn take_word(&mut self) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.skip(1);
        }
        self.chars[start..self.at].iter().collect()
    }

    /// A name; or a literal that begins like one: `b"`, `c"`, `b'`, `r"`, `r#"`, `br##"`, `cr#"`. A raw identifier keeps
    /// its `r#`, so that `r#use` is never taken for the keyword.
    fn take_name_or_prefixed_literal(&mut self) -> Kind {
        let word = self.take_word();
        let hashes = (0..).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
        match (word.as_str(), self.peek(hashes)) {
            ("r" | "br" | "cr", Some('"')) => self.take_raw_string(hashes),
            ("b" | "c", Some('"')) if hashes == 0 => self.take_string(),
            ("b", Some('\'')) if hashes == 0 => self.take_quote(),
            ("r", Some(c)) if hashes == 1 && (c.is_alphabetic() || c == '_') => {
                self.skip(1);
                Kind::Ident(format!("r#{}", self.take_word()))
            }
            _ => Kind::Ident(word),
        }
    }

    fn take_raw_string(&mut self, hashes: usize) -> Kind {
        self.skip(hashes + 1);
        while let Some(c) = self.peek(0) {
            self.skip(1);
            if c == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.skip(hashes);
                break;
            }
        }
        Kind::Literal
    }
}

/// A module, as seen from one file: the file itself or a `mod name { .. }` in it.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// From the crate root: `["http", "parse", "tests"]`.
    pub(super) path: Vec<String>,
    /// Under `#[cfg(test)]`, here or further out.
    pub(super) is_test: bool,
}

/// A `mod name;` or `mod name {`.
#[derive(Debug, Clone)]
pub(super) struct Declaration {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
    pub(super) is_test: bool,
}

/// The modules of one file and the module in which each token stands.
pub(super) struct Scopes {
    scopes: Vec<Scope>,
    of_token: Vec<usize>,
    pub(super) declarations: Vec<Declaration>,
}

impl Scopes {
    pub(super) fn at(&self, token: usize) -> &Scope {
        &self.scopes[self.of_token[token]]
    }
}

/// Walks the braces of a file whose own module is `file`.
pub(super) fn scopes(tokens: &[Token], file: Scope) -> Scopes {
    let mut found = Scopes { scopes: vec![file], of_token: Vec::new(), declarations: Vec::new() };
    // For each open brace, the scope that its closing restores.
    let mut outer = Vec::new();
    let mut current = 0;
    let mut entering = None;
    let mut has_test_attribute = false;
    for (at, token) in tokens.iter().enumerate() {
        found.of_token.push(current);
        if token.is_punct('{') {
            outer.push(current);
            current = entering.take().unwrap_or(current);
        } else if token.is_punct('}') {
            current = outer.pop().unwrap_or(0);
        } else if let Some(name) = declared_module(tokens, at) {
            let scope = &found.scopes[current];
            let path = scope.path.iter().map(String::as_str).chain([name]).map(str::to_owned).collect::<Vec<_>>();
            let is_test = scope.is_test || has_test_attribute;
            found.declarations.push(Declaration { line: token.line, path: path.clone(), is_test });
            if tokens.get(at + 2).is_some_and(|next| next.is_punct('{')) {
                found.scopes.push(Scope { path, is_test });
                entering = Some(found.scopes.len() - 1);
            }
        }
        if token.is_punct('#') {
            has_test_attribute |= is_test_attribute(&tokens[at..]);
        } else if matches!(&token.kind, Kind::Punct(';' | '{' | '}')) {
            has_test_attribute = false;
        }
    }
    found
}

fn declared_module(tokens: &[Token], at: usize) -> Option<&str> {
    let opens = tokens.get(at + 2)?;
    let is_module = tokens[at].ident() == Some("mod") && (opens.is_punct(';') || opens.is_punct('{'));
    if is_module { tokens[at + 1].ident() } else { None }
}

/// Whether `#[cfg(..)]` at the start of `tokens` holds only in tests: `test` or `all(.., test, ..)`; `any` and `not` might
/// not, so they do not count.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let mut names = tokens.iter().take_while(|token| !token.is_punct(']')).filter_map(Token::ident);
    names.next() == Some("cfg") && {
        let rest = names.collect::<Vec<_>>();
        rest.contains(&"test") && !rest.contains(&"any") && !rest.contains(&"not")
    }
}

/// A path of at least two segments, or any path that is imported; one for each leaf of a `use` tree.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) line: usize,
    /// Index of the token it starts with.
    pub(super) token: usize,
    /// As written, a glob as `*`.
    pub(super) segments: Vec<String>,
    /// The name a `use` binds; `None` for a path in code.
    pub(super) binds: Option<String>,
}

/// Every path that a file names.
pub(super) fn references(tokens: &[Token]) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next_is_sep = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::PathSep);
        let prev_is_sep = at > 0 && tokens[at - 1].kind == Kind::PathSep;
        match tokens[at].ident() {
            // `impl Trait + use<'a>` imports nothing.
            Some("use") if !tokens.get(at + 1).is_some_and(|next| next.is_punct('<')) => {
                at = take_use_tree(tokens, at + 1, &[], &mut found);
            }
            Some(_) if next_is_sep && !prev_is_sep => at = take_path(tokens, at, &mut found),
            _ => at += 1,
        }
    }
    found
}

fn take_path(tokens: &[Token], start: usize, found: &mut Vec<Reference>) -> usize {
    let mut segments = Vec::new();
    let mut at = start;
    while let Some(name) = tokens.get(at).and_then(Token::ident) {
        segments.push(name.to_owned());
        at += 1;
        if tokens.get(at).is_none_or(|next| next.kind != Kind::PathSep) {
            break;
        }
        at += 1;
    }
    found.push(Reference { line: tokens[start].line, token: start, segments, binds: None });
    at
}

/// Reads one branch of a `use` tree after `prefix`; returns the index of the `,`, `}` or `;` that ends it.
fn take_use_tree(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<Reference>) -> usize {
    let mut segments = prefix.to_vec();
    let mut alias = None;
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        match &token.kind {
            Kind::Ident(name) if name == "as" => {
                alias = tokens.get(at + 1).and_then(Token::ident).map(str::to_owned);
                at += 1;
            }
            Kind::Ident(name) => segments.push(name.clone()),
            Kind::Punct('*') => segments.push("*".to_owned()),
            Kind::Punct('{') => return take_use_group(tokens, at + 1, &segments, found),
            // `$crate` in a macro's body; a leading `::` names an external crate and leaves the segments as they are.
            Kind::Punct('$') | Kind::PathSep => {}
            Kind::Punct(_) | Kind::Literal | Kind::Lifetime => break,
        }
        at += 1;
    }
    if at > start {
        let named = segments.iter().rfind(|segment| *segment != "self").cloned();
        let line = tokens[start].line;
        found.push(Reference { line, token: start, segments, binds: Some(alias.or(named).unwrap_or_default()) });
    }
    at
}

fn take_use_group(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<Reference>) -> usize {
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        match token.kind {
            Kind::Punct('}') => return at + 1,
            Kind::Punct(',') => at += 1,
            Kind::Ident(_) | Kind::PathSep | Kind::Punct('*' | '{' | '$') => {
                at = take_use_tree(tokens, at, prefix, found);
            }
            Kind::Punct(_) | Kind::Literal | Kind::Lifetime => return at,
        }
    }
    at
}

/// The path from the crate root, or `None` if it begins with a name that is not this crate's.
pub(super) fn absolute(segments: &[String], here: &[String]) -> Option<Vec<String>> {
    let (first, rest) = segments.split_first()?;
    let mut path = match first.as_str() {
        // The library under its own name is the same root.
        "crate" | "ringfort" => Vec::new(),
        "self" => here.to_vec(),
        "super" => here.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default(),
        _ => return None,
    };
    for segment in rest {
        match segment.as_str() {
            "self" => {}
            "super" => drop(path.pop()),
            name => path.push(name.to_owned()),
        }
    }
    Some(path)
}
