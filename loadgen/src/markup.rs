//! Text inside HTML and SVG.

/// Text as it may stand in an element or in a quoted attribute; what no document may hold is replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            control if control.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Asserts that every tag is closed in turn, that every attribute is quoted, and that no `&` stands alone.
#[cfg(test)]
pub(crate) fn assert_well_formed(document: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = document.strip_prefix("<!DOCTYPE html>").unwrap_or(document);
    while let Some((text, behind)) = rest.split_once('<') {
        assert_entities(text);
        let (tag, behind) = behind.split_once('>').expect("a tag that ends");
        rest = behind;
        assert_eq!(tag.matches('"').count() % 2, 0, "an open quote in <{tag}>");
        assert_entities(tag);
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> behind {open:?}");
        } else if name == "style" {
            // What is inside is no markup.
            let (css, behind) = rest.split_once("</style>").expect("an end of <style>");
            assert!(!css.contains('<'));
            rest = behind;
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_entities(rest);
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[cfg(test)]
fn assert_entities(text: &str) {
    assert!(!text.contains('>'), "a > that stands alone: {text}");
    for (at, _) in text.match_indices('&') {
        let name = text[at + 1..].split_once(';').map(|(name, _)| name);
        assert!(
            name.is_some_and(|name| matches!(name, "amp" | "lt" | "gt" | "quot" | "#39")),
            "a & that stands alone: {}",
            &text[at..]
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(escape("a<b>&\"c\"'d' é"), "a&lt;b&gt;&amp;&quot;c&quot;&#39;d&#39; é");
        assert_eq!(escape("\u{0}\u{1b}[1m\n"), "\u{fffd}\u{fffd}[1m\n");
    }

    #[test]
    fn what_is_not_well_formed_is_noticed() {
        for broken in
            ["<p>", "<p></q>", "</p>", "<p a=\"></p>", "<p>a & b</p>", "<p>a > b</p>", "<a><b></a></b>"]
        {
            assert!(std::panic::catch_unwind(|| assert_well_formed(broken)).is_err(), "{broken}");
        }
        assert_well_formed("<!DOCTYPE html><p class=\"x\">a &amp; b<br /><style>a > b {}</style></p>");
    }
}
