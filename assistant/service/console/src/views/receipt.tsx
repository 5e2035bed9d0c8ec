import { moment } from "../text.ts";
import type { WithdrawalReceipt } from "../wire.ts";

const STATES = { removed: "removed", pending: "being removed", remains: "remains" } as const;

/** Place by place, what a withdrawal removed and what remains until when. */
export function Receipt({ receipt }: { receipt: WithdrawalReceipt }) {
  const now = new Date();
  return (
    <table class="receipt">
      <caption>
        {receipt.title} is withdrawn and answers nothing.{" "}
        {receipt.is_complete ? "All that can be removed is removed." : "The removal goes on."}
      </caption>
      <thead>
        <tr>
          {["Where", "State", "What it is, and what happens when"].map((heading) => (
            <th key={heading} scope="col">
              {heading}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {receipt.places.map((place) => (
          <tr key={place.place}>
            <th scope="row">{place.title}</th>
            <td>
              {STATES[place.state]}
              {place.state === "remains" && (place.until === null ? ", no end date" : ` until ${moment(place.until, now).replace("Today", "today")}`)}
            </td>
            <td>{place.what} <span class="hint">{place.rule}</span></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
