//! The series of a plan.

use std::collections::HashMap;
use std::sync::Arc;

use super::{RouteCounts, Series};
use crate::plan::Plan;

/// The series of the sites and routes of a plan, by their indices there.
#[derive(Debug)]
pub struct PlanSeries {
    /// The sites.
    pub sites: Vec<SiteSeries>,
    /// Of requests for hosts that no site has.
    pub none: Arc<Series<RouteCounts>>,
}

/// The series of a site.
#[derive(Debug)]
pub struct SiteSeries {
    /// The site's name.
    pub name: String,
    /// The routes.
    pub routes: Vec<RouteSeries>,
    /// Of requests that no route took.
    pub none: Arc<Series<RouteCounts>>,
}

/// The series of a route.
#[derive(Debug)]
pub struct RouteSeries {
    /// The route's name.
    pub name: String,
    /// Its counters.
    pub series: Arc<Series<RouteCounts>>,
}

impl PlanSeries {
    /// Makes the series of a plan. Sites and routes with the names of earlier ones go on with their series.
    pub fn of(plan: &Plan, before: Option<&Self>) -> Self {
        let before_sites = before.map_or(&[][..], |before| &before.sites);
        let known_sites: HashMap<_, _> = by_name(before_sites, |site| &site.name);
        let site = |site: &crate::plan::Site| {
            let known = known_sites.get(&*site.name);
            let known_routes = known.map_or(&[][..], |known| &known.routes);
            let known_routes = by_name(known_routes, |route| &route.name);
            let route = |route: &crate::plan::Route| RouteSeries {
                name: route.name.clone(),
                series: known_routes
                    .get(&*route.name)
                    .map_or_else(Arc::default, |known| known.series.clone()),
            };
            SiteSeries {
                name: site.name.clone(),
                routes: site.routes.iter().map(route).collect(),
                none: known.map_or_else(Arc::default, |known| known.none.clone()),
            }
        };
        Self {
            sites: plan.sites.iter().map(site).collect(),
            none: before.map_or_else(Arc::default, |before| before.none.clone()),
        }
    }

    /// Returns the series of a route; without a route that of its site's other requests, and without a site that of
    /// requests for hosts that no site has.
    pub fn route(&self, site: Option<usize>, route: Option<usize>) -> &Series<RouteCounts> {
        let Some(site) = site.and_then(|site| self.sites.get(site)) else {
            return &self.none;
        };
        let route = route.and_then(|route| site.routes.get(route));
        route.map_or(&site.none, |route| &route.series)
    }
}

fn by_name<T>(all: &[T], name: impl Fn(&T) -> &str) -> HashMap<&str, &T> {
    all.iter().map(|one| (name(one), one)).collect()
}
