// SPDX-License-Identifier: Apache-2.0

package seed

import "slices"

func (p *problems) faults(parent string, list []Fault, kinds []FaultKind) {
	for i, it := range list {
		p.fault(place(parent, "faults", i, string(it.Kind)), it, kinds)
	}
}

func (p *problems) fault(where string, f Fault, kinds []FaultKind) {
	allowed := make([]string, 0, len(kinds))
	for _, kind := range kinds {
		allowed = append(allowed, string(kind))
	}
	p.oneOf(where+": kind", string(f.Kind), allowed...)
	if (f.Kind == FaultLatency || f.Kind == FaultSlow) && f.Latency <= 0 {
		p.add(where, "latency is missing")
	}
	if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
		p.add(where, "status must be 400 to 599")
	}
	if f.RetryAfter < 0 || f.Count < 0 {
		p.add(where, "retryAfter and count are not negative")
	}
	if f.Probability < 0 || f.Probability > 1 {
		p.add(where, "probability must be above 0 and up to 1")
	}
	p.faultFilters(where, f, slices.Contains(kinds, FaultForbid))
}

func (p *problems) faultFilters(where string, f Fault, ofVault bool) {
	if f.Kind == FaultDNS && len(f.Operations)+len(f.Objects) > 0 {
		p.add(where, "a name is looked up before any operation; leave operations and objects out")
	}
	if len(f.Objects) > 0 && !ofVault {
		p.add(where, "a sign-in knows no objects; leave them out")
	}
}

func (p *problems) limit(where string, l *Limit) {
	if l.Transactions < 0 || l.Per < 0 {
		p.add(where, "transactions and per are not negative")
	}
	if l.Transactions == 0 {
		l.Transactions = DefaultTransactions
	}
	if l.Per == 0 {
		l.Per = DefaultPer
	}
}
