package tracker

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"waymark/schema"
	"waymark/tracker/links"
)

// accepted is the answer to a conversion: its id, the same for the same idempotency key for ever.
type accepted struct {
	ID string `json:"id"`
}

// handleConversions takes the reports of a merchant. What it answers 202 is on disk.
func (t *Tracker) handleConversions(ctx *fasthttp.RequestCtx) {
	answer, status, bad := t.report(ctx)
	if bad != nil {
		t.metrics.outcomes[outcomeConversionRefused].Inc()
		bad.write(ctx)
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic("BUG: the answer to conversions cannot be encoded: " + err.Error())
	}
	t.metrics.outcomes[outcomeConversion].Inc()
	writeJSON(ctx, status, "application/json", body)
}

// report takes the conversions of a request. A list is answered item by item, each with its id or its own problem; its
// status is 202 when any was taken, else that of the first problem.
func (t *Tracker) report(ctx *fasthttp.RequestCtx) (answer any, status int, bad *problem) {
	if !ctx.Request.Header.IsPost() {
		return nil, 0, newProblem(http.StatusMethodNotAllowed, "", "conversions are reported with POST")
	}
	program := t.authorize(&ctx.Request.Header)
	if program == nil {
		return nil, 0, newProblem(http.StatusUnauthorized, "", "want \"Authorization: Bearer KEY\" with a conversions key of a program")
	}
	items, list, bad := splitConversions(ctx.PostBody())
	if bad != nil {
		return nil, 0, bad
	}
	received := time.Now()
	answers := make([]any, len(items))
	var last schema.Position
	journaled := 0
	for i, item := range items {
		c, bad := parseConversion(item, program.ID, received, t.clickIDs)
		if bad == nil {
			bad = t.checkClick(c, program)
		}
		if bad == nil {
			position, err := t.appendConversion(c)
			if err == nil {
				last = position
				journaled++
				answers[i] = accepted{hex.EncodeToString(c.Id)}
				continue
			}
			t.trouble.note(err)
			bad = newProblem(http.StatusServiceUnavailable, "", "the conversion could not be stored; send it again")
		}
		if !list {
			return nil, 0, bad
		}
		answers[i] = bad
	}
	if journaled > 0 {
		if err := t.journal.WaitSynced(last); err != nil {
			t.trouble.note(err)
			return nil, 0, newProblem(http.StatusServiceUnavailable, "", "the conversions could not be stored; send them again")
		}
	}
	if !list {
		return answers[0], http.StatusAccepted, nil
	}
	status = http.StatusAccepted
	if journaled == 0 {
		status = answers[0].(*problem).Status
	}
	return answers, status, nil
}

// checkClick refuses a click id of another program's link, where the edge knows the link. Of one that it does not
// know, the ledger decides.
func (t *Tracker) checkClick(c *schema.Conversion, program *links.Program) *problem {
	if len(c.ClickId) == 0 {
		return nil
	}
	var id schema.RawClickID
	copy(id[:], c.ClickId)
	if owner := t.links.ProgramOfLink(id.Link()); owner != 0 && owner != program.ID {
		return unprocessable("click_id", "this is a click of another program")
	}
	return nil
}

// appendConversion gives a conversion its id and hands it to the journal.
func (t *Tracker) appendConversion(c *schema.Conversion) (schema.Position, error) {
	id := t.conversionIDs.ID(c.ProgramId, []byte(c.IdempotencyKey))
	c.Id = bytes.Clone(id[:])
	value, err := c.MarshalVT()
	if err != nil {
		return 0, err
	}
	partition := schema.PartitionOf(&id, t.config.ConversionsPartitions)
	return t.journaled(t.journal.Append(schema.TopicConversions, uint16(partition), schema.RecordConversion, id[:], value))
}
