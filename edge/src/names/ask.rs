//! Questions to name servers.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;

use super::Answer;

/// The result of a question.
pub(super) enum Resolution<T> {
    /// There are some.
    Some(T),
    /// There are none, for this reason.
    None(String),
    /// Nobody knows, for this reason.
    Failed(String),
}

/// Returns the names that are asked for in place of one, in this order.
pub(super) fn candidates(name: &Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut whole = name.clone();
    whole.set_fqdn(true);
    let labels = usize::from(whole.num_labels());
    // A name below `localhost` is always this machine (RFC 6761 section 6.3).
    let is_local = whole.iter().next_back() == Some(b"localhost");
    if name.is_fqdn() || is_local {
        return vec![whole];
    }
    let below = search
        .iter()
        .filter_map(|domain| name.clone().append_domain(domain).ok());
    let mut all: Vec<_> = below.collect();
    let at = if labels > ndots { 0 } else { all.len() };
    all.insert(at, whole);
    all
}

/// Asks for the addresses of a name, both kinds at once.
pub(super) async fn addresses(
    client: &TokioResolver,
    name: &Name,
    before: &[IpAddr],
) -> Resolution<Answer> {
    let of = |kind| of_kind(client, name, kind);
    let (v4, v6) = futures::future::join(of(RecordType::A), of(RecordType::AAAA)).await;
    let kept = |v4: bool| before.iter().copied().filter(move |ip| ip.is_ipv4() == v4);
    match (v4, v6) {
        (Resolution::Some(mut v4), Resolution::Some(v6)) => {
            v4.addresses.extend(v6.addresses);
            v4.ttl = v4.ttl.min(v6.ttl);
            Resolution::Some(v4)
        }
        (Resolution::Some(answer), Resolution::None(_))
        | (Resolution::None(_), Resolution::Some(answer)) => Resolution::Some(answer),
        (Resolution::Some(mut v4), Resolution::Failed(_)) => {
            v4.addresses.extend(kept(false));
            Resolution::Some(v4)
        }
        (Resolution::Failed(_), Resolution::Some(mut v6)) => {
            v6.addresses.extend(kept(true));
            Resolution::Some(v6)
        }
        (Resolution::Failed(why), _) | (_, Resolution::Failed(why)) => Resolution::Failed(why),
        (Resolution::None(why), Resolution::None(_)) => Resolution::None(why),
    }
}

async fn of_kind(client: &TokioResolver, name: &Name, kind: RecordType) -> Resolution<Answer> {
    let records = match records(client, name, kind).await {
        Resolution::Some(found) => found,
        Resolution::None(why) => return Resolution::None(why),
        Resolution::Failed(why) => return Resolution::Failed(why),
    };
    let addresses = records.answers().iter();
    let addresses = addresses.filter_map(|record| record.data.ip_addr());
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() {
        return Resolution::None(format!("{name} has no address"));
    }
    // Those of aliases among them.
    let ttl = ttl(records.answers().iter());
    Resolution::Some(Answer { addresses, ttl })
}

/// Returns the time for which all of these records hold.
pub(super) fn ttl<'a>(records: impl Iterator<Item = &'a Record>) -> Duration {
    let ttl = records.map(|record| record.ttl).min();
    Duration::from_secs(ttl.unwrap_or(0).into())
}

/// Asks for the records of a name.
pub(super) async fn records(
    client: &TokioResolver,
    name: &Name,
    kind: RecordType,
) -> Resolution<Lookup> {
    match client.lookup(name.clone(), kind).await {
        Ok(found) => Resolution::Some(found),
        Err(e) => failure(name, kind, &e),
    }
}

fn failure<T>(name: &Name, kind: RecordType, e: &NetError) -> Resolution<T> {
    match e {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Resolution::None(format!("{name} does not exist")),
            ResponseCode::NoError => Resolution::None(format!("{name} has no {kind} record")),
            other => Resolution::Failed(format!("asking for {name}: {other}")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            Resolution::Failed(format!("asking for {name}: {code}"))
        }
        other => Resolution::Failed(format!("asking for {name}: {other}")),
    }
}
