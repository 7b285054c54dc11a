// SPDX-License-Identifier: Apache-2.0

package controller

import "sigs.k8s.io/controller-runtime/pkg/predicate"

// Changed is what wakes a resource.
func (r *Reconciler) Changed() predicate.Funcs { return r.changed() }
