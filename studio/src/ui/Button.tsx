/** A button with an icon, and with its label as text or for those who hear it. */

import { Icon, type IconName } from "./Icon";

export function Button(props: {
  readonly icon: IconName;
  readonly label: string;
  readonly shortcut?: string;
  readonly onClick: () => void;
  readonly disabled?: boolean;
  readonly pressed?: boolean;
  readonly showsLabel?: boolean;
}) {
  const { icon, label, shortcut, onClick, disabled, pressed, showsLabel } = props;
  return (
    <button
      type="button"
      class="button"
      title={shortcut === undefined ? label : `${label} (${shortcut})`}
      {...(showsLabel !== true && { "aria-label": label })}
      {...(pressed !== undefined && { "aria-pressed": pressed })}
      disabled={disabled ?? false}
      onClick={onClick}
    >
      <Icon name={icon} />
      {showsLabel === true && <span>{label}</span>}
    </button>
  );
}
