//! What programs that speak the plain dialect are told besides the data: JSON objects, one a message.

use crate::proto::centrifuge::{PayloadKind, PayloadRef};

/// Appends a publication: `{"offset":7,"kind":"json","data":…}`. JSON is embedded without line feeds, text is a
/// string, binary a string of base64.
pub fn append_publication(out: &mut Vec<u8>, offset: u64, data: PayloadRef<'_>) {
    let kind = match data.kind {
        PayloadKind::Json => "json",
        PayloadKind::Text => "text",
        PayloadKind::Binary => "binary",
    };
    out.extend_from_slice(
        format!("{{\"offset\":{offset},\"kind\":\"{kind}\",\"data\":").as_bytes(),
    );
    super::centrifuge::append_json(out, data);
    out.push(b'}');
}

/// Appends where a listener stands: `{"subscribed":{"epoch":"…","offset":7,"recovered":true}}`. `recovered` is
/// whether everything after the position it named follows.
pub fn append_subscribed(out: &mut Vec<u8>, epoch: &str, offset: u64, recovered: bool) {
    let text = format!(
        "{{\"subscribed\":{{\"epoch\":\"{epoch}\",\"offset\":{offset},\"recovered\":{recovered}}}}}"
    );
    out.extend_from_slice(text.as_bytes());
}

/// Appends how many publications were dropped for a listener that reads too slowly: `{"dropped":7}`.
pub fn append_dropped(out: &mut Vec<u8>, dropped: u32) {
    out.extend_from_slice(format!("{{\"dropped\":{dropped}}}").as_bytes());
}

/// Appends the answer to a poll: `{"epoch":"…","offset":7,"recovered":true,"publications":[…]}`. Each of the
/// publications in `parts` has a comma behind it.
pub fn append_page(out: &mut Vec<u8>, epoch: &str, offset: u64, recovered: bool, parts: &[u8]) {
    let text = format!(
        "{{\"epoch\":\"{epoch}\",\"offset\":{offset},\"recovered\":{recovered},\"publications\":["
    );
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(parts.strip_suffix(b",").unwrap_or(parts));
    out.extend_from_slice(b"]}");
}

/// Appends why the connection ends, and when to come back:
/// `{"disconnect":{"code":1001,"reason":"…","reconnect":true,"retry_after_ms":500}}`, or `"reconnect":false` for not
/// at all. `reason` needs no escapes.
pub fn append_disconnect(out: &mut Vec<u8>, code: u16, reason: &str, retry_after_ms: Option<u32>) {
    let reconnect = match retry_after_ms {
        Some(retry_after_ms) => format!("true,\"retry_after_ms\":{retry_after_ms}"),
        None => "false".to_owned(),
    };
    let text = format!(
        "{{\"disconnect\":{{\"code\":{code},\"reason\":\"{reason}\",\"reconnect\":{reconnect}}}}}"
    );
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(data: PayloadRef<'_>) -> String {
        let mut out = Vec::new();
        append_publication(&mut out, 7, data);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_page_is_one_object() {
        let page = |parts: &[u8]| {
            let mut out = Vec::new();
            append_page(&mut out, "e", 7, true, parts);
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()
        };
        assert_eq!(page(b"")["publications"], serde_json::json!([]));
        assert_eq!(page(b"{},1,")["publications"], serde_json::json!([{}, 1]));
        let mut out = Vec::new();
        append_disconnect(&mut out, 1001, "server is going away", Some(500));
        let said: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(said["disconnect"]["retry_after_ms"], 500);
    }

    #[test]
    fn data_is_carried_by_its_kind() {
        assert_eq!(
            publication(PayloadRef::json(b"{\"a\":\n1}")),
            r#"{"offset":7,"kind":"json","data":{"a":1}}"#
        );
        assert_eq!(
            publication(PayloadRef::text(b"a\n\"b\"")),
            r#"{"offset":7,"kind":"text","data":"a\n\"b\""}"#
        );
        assert_eq!(
            publication(PayloadRef::binary(b"\xff\n")),
            r#"{"offset":7,"kind":"binary","data":"/wo="}"#
        );
    }
}
