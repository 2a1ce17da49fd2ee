//! Text that is safe in HTML, and tables a screen reader can follow.

/// `text` with the five characters that mean something in HTML escaped: safe as content and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are no characters of an HTML document.
            c if c.is_control() && !matches!(c, '\n' | '\t' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Bytes as base64 (RFC 4648, padded).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &b| word << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

/// A cell of a table.
pub(crate) struct Cell {
    text: String,
    class: &'static str,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "" }
    }

    pub(crate) fn number(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "n" }
    }

    /// A number that is beside the point, such as the paper's.
    pub(crate) fn aside(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "n aside" }
    }

    /// A value that stands out.
    pub(crate) fn marked(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "marked" }
    }
}

/// A table in a box that scrolls sideways on a narrow screen and can be reached by keyboard. The first cell of a row
/// heads it. All text is escaped here.
pub(crate) fn table(caption: &str, headings: &[&str], rows: &[Vec<Cell>]) -> String {
    let caption = escape(caption);
    let mut out = format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\">\n<table>\n<caption>{caption}</caption>\n<thead><tr>"
    );
    for (i, heading) in headings.iter().enumerate() {
        let class = if i == 0 { "" } else { numeric(rows, i) };
        out.push_str(&format!("<th scope=\"col\"{class}>{}</th>", escape(heading)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let text = escape(&cell.text);
            if i == 0 {
                out.push_str(&format!("<th scope=\"row\">{text}</th>"));
            } else if cell.class.is_empty() {
                out.push_str(&format!("<td>{text}</td>"));
            } else {
                out.push_str(&format!("<td class=\"{}\">{text}</td>", cell.class));
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}

/// Headings stand over numbers as numbers do.
fn numeric(rows: &[Vec<Cell>], column: usize) -> &'static str {
    match rows.first().and_then(|row| row.get(column)) {
        Some(cell) if cell.class == "n" => " class=\"n\"",
        Some(cell) if cell.class == "n aside" => " class=\"n aside\"",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{base64, escape};

    #[test]
    fn base64_gives_the_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn nothing_escapes_escaping() {
        assert_eq!(
            escape("<a href=\"x\" o='&'>\u{0}"),
            "&lt;a href=&quot;x&quot; o=&#39;&amp;&#39;&gt;\u{fffd}"
        );
    }
}
