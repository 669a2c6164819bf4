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

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(data: PayloadRef<'_>) -> String {
        let mut out = Vec::new();
        append_publication(&mut out, 7, data);
        String::from_utf8(out).unwrap()
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
