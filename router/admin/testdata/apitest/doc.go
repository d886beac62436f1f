// Package apitest holds the control door against its OpenAPI document: a real gateway is asked by every route, for every status that the document
// names, and each question and answer is validated. It is a module of its own so that the gateway does not depend on a validator.
package apitest
